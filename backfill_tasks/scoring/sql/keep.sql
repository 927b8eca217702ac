-- The batch's heartbeat: renew the locks of its unfinished jobs, and return those that are still its own. A job that was
-- released, cancelled, reset or claimed by another since then is not returned. Uses the primary key:
-- the status is compared as text, or else the planner may read all running jobs instead, which are many while a provider
-- works on them.
WITH held AS MATERIALIZED (
  SELECT id
  FROM {host}."BackgroundJob"
  WHERE id = ANY (:jobs) AND status::text = 'RUNNING' AND "lockedBy" = :holder
  ORDER BY id
  FOR NO KEY UPDATE
)
UPDATE {host}."BackgroundJob" AS job
SET "lockedAt" = now() AT TIME ZONE 'UTC', "updatedAt" = now() AT TIME ZONE 'UTC'
FROM held
WHERE job.id = held.id
RETURNING job.id
