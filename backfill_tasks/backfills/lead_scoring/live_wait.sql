-- How long the oldest due job of any other kind has waited, in seconds; null where none waits. It looks at the first
-- :rows of the due jobs, in the runner's own order. If all those are ours, a live job stands behind them at best, so it
-- has waited no longer than the last of them: that is what `behind_ours` says. A time before 1970, -infinity included,
-- counts as 1970, so that the wait is a number.
WITH due AS MATERIALIZED (
  SELECT greatest("runAt", timestamp '1970-01-01') AS run_at, starts_with("dedupeKey", :key_prefix) AS ours
  FROM {host}."BackgroundJob"
  WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC'
  ORDER BY "runAt"
  LIMIT :rows
)
SELECT
  extract(epoch FROM now() AT TIME ZONE 'UTC' - min(run_at) FILTER (WHERE NOT ours))::float8 AS waited,
  CASE
    WHEN count(*) = :rows AND bool_and(ours) THEN extract(epoch FROM now() AT TIME ZONE 'UTC' - max(run_at))::float8
  END AS behind_ours
FROM due
