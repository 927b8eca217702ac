-- What the host has made of a run's jobs. None of them was due before the run began, and the host sets their time forward
-- only, so the index of status and runAt leads to them: what it reads is what has come into the queue since then.
-- A job can succeed and leave no score, so the scores are counted in the leads.
SELECT
  count(*) FILTER (WHERE job.status = 'PENDING') AS pending,
  count(*) FILTER (WHERE job.status = 'RUNNING') AS running,
  count(*) FILTER (WHERE job.status = 'SUCCEEDED') AS succeeded,
  count(*) FILTER (WHERE job.status = 'FAILED') AS failed,
  count(lead.id) AS scored,
  count(*) FILTER (
    WHERE job.status IN ('SUCCEEDED', 'FAILED') AND job."finishedAt" > now() AT TIME ZONE 'UTC' - :seconds * interval '1 second'
  ) AS ended,
  min(job."runAt") FILTER (
    WHERE job.status = 'PENDING' AND job."runAt" <= now() AT TIME ZONE 'UTC'
  ) AT TIME ZONE 'UTC' AS oldest_due_at,
  max(job."runAt") FILTER (WHERE job.status = 'PENDING') AT TIME ZONE 'UTC' AS last_due_at,
  now() AS seen_at
FROM {host}."BackgroundJob" AS job
LEFT JOIN {host}."Lead" AS lead
  ON job.status = 'SUCCEEDED'
  AND lead.id = job."leadId"
  AND lead."overallScore" IS NOT NULL
  AND lead."scoredAt" >= CAST(:started_at AS timestamptz) AT TIME ZONE 'UTC'
WHERE
  job.status IN ('PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED')
  AND job."runAt" >= CAST(:started_at AS timestamptz) AT TIME ZONE 'UTC'
  AND starts_with(job."dedupeKey", :key_prefix)
  AND (CAST(:client_ids AS text[]) IS NULL OR job."clientId" = ANY (:client_ids))
