-- Whether a drain has anything to do, and how long live jobs wait. Uses the index on status and runAt: it reads the
-- waiting jobs up to the first one of ours, the first :rows due jobs, and the running jobs. A live job behind more than
-- :rows due jobs of ours isn't seen. A time before 1970 counts as 1970; a job due in over a hundred years is never due.
--
-- `left(…) = …` instead of starts_with(…): the planner would read all of our jobs by their keys, finished ones included.
WITH due AS MATERIALIZED (
  SELECT
    greatest("runAt", timestamp '1970-01-01') AS run_at,
    left("dedupeKey", length(:key_prefix)) = :key_prefix AS ours
  FROM {host}."BackgroundJob"
  WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC'
  ORDER BY "runAt"
  LIMIT :rows
)
SELECT
  -- 0 or less: it is due.
  (
    SELECT extract(epoch FROM greatest("runAt", timestamp '1970-01-01') - now() AT TIME ZONE 'UTC')::float8
    FROM {host}."BackgroundJob"
    WHERE
      status = 'PENDING'
      AND "runAt" < now() AT TIME ZONE 'UTC' + interval '100 years'
      AND left("dedupeKey", length(:key_prefix)) = :key_prefix
    ORDER BY "runAt"
    LIMIT 1
  ) AS next_due_seconds,
  EXISTS (
    SELECT FROM {host}."BackgroundJob"
    WHERE status = 'RUNNING' AND left("dedupeKey", length(:key_prefix)) = :key_prefix
  ) AS is_running,
  (
    SELECT extract(epoch FROM now() AT TIME ZONE 'UTC' - min(run_at))::float8 FROM due WHERE NOT ours
  ) AS live_wait_seconds
