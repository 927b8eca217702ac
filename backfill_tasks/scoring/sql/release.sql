-- Release our own jobs whose holder is gone: ours after a few missed heartbeats, one that the host's runner holds after
-- as long as the host itself waits. A job with attempts left is PENDING again with its runAt as it was; one without fails,
-- because another attempt would be beyond its maximum. So does a PENDING job whose attempts were used up when the host
-- released it. Uses the index on status and runAt: it reads the running jobs, and the first :pool due ones.
WITH stale AS MATERIALIZED (
  SELECT id, attempts >= "maxAttempts" AS used_up
  FROM {host}."BackgroundJob"
  WHERE
    status = 'RUNNING'
    AND type = 'LEAD_SCORING_POST_PROCESS'
    AND left("dedupeKey", length(:key_prefix)) = :key_prefix
    AND "lockedAt" <= now() AT TIME ZONE 'UTC' - interval '1 second' * CASE
      WHEN starts_with("lockedBy", :holder_prefix) THEN CAST(:ours_seconds AS double precision)
      ELSE :theirs_seconds
    END
  FOR NO KEY UPDATE SKIP LOCKED
),
due AS MATERIALIZED (
  SELECT id, attempts, "maxAttempts", "dedupeKey", type
  FROM {host}."BackgroundJob"
  WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC'
  ORDER BY "runAt"
  LIMIT :pool
),
spent AS MATERIALIZED (
  SELECT job.id, true AS used_up
  FROM due
  JOIN {host}."BackgroundJob" AS job ON job.id = due.id
  WHERE
    due.attempts >= due."maxAttempts"
    AND due.type = 'LEAD_SCORING_POST_PROCESS'
    AND starts_with(due."dedupeKey", :key_prefix)
    AND job.status::text = 'PENDING' -- not by the index on status: by the ids
    AND job.attempts >= job."maxAttempts"
  FOR NO KEY UPDATE OF job SKIP LOCKED
),
found AS (
  SELECT * FROM stale
  UNION ALL
  SELECT * FROM spent
)
UPDATE {host}."BackgroundJob" AS job
SET
  status = CASE WHEN found.used_up THEN 'FAILED'::{host}."BackgroundJobStatus" ELSE 'PENDING' END,
  "lockedAt" = NULL,
  "lockedBy" = NULL,
  "startedAt" = NULL,
  "finishedAt" = CASE WHEN found.used_up THEN now() AT TIME ZONE 'UTC' END,
  "lastError" = :error,
  "updatedAt" = now() AT TIME ZONE 'UTC'
FROM found
WHERE job.id = found.id
RETURNING job.id
