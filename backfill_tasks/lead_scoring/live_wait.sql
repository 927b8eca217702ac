-- How long the oldest due job of any other kind has waited, in seconds; null where none waits. It looks at the first
-- :rows of the due jobs, in the runner's own order. If all those are ours, a live job stands behind them at best, so it
-- has waited no longer than the last of them: that is what `behind_ours` says.
WITH due AS MATERIALIZED (
  SELECT "runAt", starts_with("dedupeKey", :key_prefix) AS ours
  FROM {host}."BackgroundJob"
  WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC'
  ORDER BY "runAt"
  LIMIT :rows
)
SELECT
  extract(epoch FROM now() AT TIME ZONE 'UTC' - min("runAt") FILTER (WHERE NOT ours))::float8 AS waited,
  CASE
    WHEN count(*) = :rows AND bool_and(ours) THEN extract(epoch FROM now() AT TIME ZONE 'UTC' - max("runAt"))::float8
  END AS behind_ours
FROM due
