-- How long the oldest due job that isn't ours has waited, in seconds; null if none is waiting. It reads the first :rows
-- due jobs, in the runner's own order. If all of them are ours, any live job comes after them, so it has waited no
-- longer than the last of them: `behind_ours` is that upper bound. A time before 1970, -infinity included, counts as
-- 1970, so that the wait is a number.
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
