-- Claim due jobs of all types, oldest first.
UPDATE "BackgroundJob" AS job
SET
  status = 'RUNNING', "lockedAt" = now() AT TIME ZONE 'UTC', "lockedBy" = 'chaos-runner',
  "startedAt" = now() AT TIME ZONE 'UTC', attempts = attempts + 1, "updatedAt" = now() AT TIME ZONE 'UTC'
FROM (
  SELECT id FROM "BackgroundJob"
  WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC'
  ORDER BY "runAt" LIMIT 20
) AS due
WHERE job.id = due.id AND job.status = 'PENDING'
