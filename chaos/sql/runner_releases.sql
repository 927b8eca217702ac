-- Each call of the runner first releases locks older than 10 minutes.
UPDATE "BackgroundJob"
SET
  status = 'PENDING', "runAt" = now() AT TIME ZONE 'UTC', "lockedAt" = NULL, "lockedBy" = NULL, "startedAt" = NULL,
  "lastError" = 'Released stale RUNNING lock', "updatedAt" = now() AT TIME ZONE 'UTC'
WHERE status = 'RUNNING' AND "lockedAt" < now() AT TIME ZONE 'UTC' - interval '10 minutes'
