-- Our last jobs that are due by :until come due later, behind the live jobs that arrive until then. A job that the host
-- is claiming right now is locked, and passed over; RUNNING jobs aren't looked at.
WITH due AS MATERIALIZED (
  SELECT id, "runAt", "dedupeKey"
  FROM {host}."BackgroundJob"
  WHERE status = 'PENDING' AND "runAt" <= CAST(:until AS timestamp)
  ORDER BY "runAt"
  LIMIT :rows
),
ours AS MATERIALIZED (
  SELECT job.id
  FROM {host}."BackgroundJob" AS job
  WHERE
    job.status = 'PENDING'
    AND job.id IN (
      SELECT id FROM due WHERE starts_with("dedupeKey", :key_prefix) ORDER BY "runAt" DESC, id DESC LIMIT :jobs
    )
  ORDER BY job.id
  FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE {host}."BackgroundJob" AS job
SET "runAt" = CAST(:due AS timestamp), "updatedAt" = now() AT TIME ZONE 'UTC'
FROM ours
WHERE job.id = ours.id
