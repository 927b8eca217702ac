-- Write a whole batch's results: the jobs' ends and their leads' scores, together. Only jobs that the batch still holds
-- are changed; the others belong to someone else by now, and so do their leads. Uses the primary keys:
-- the status is compared as text, or else the planner may read all running jobs instead.
--
-- kind is `scored` (score the lead), `unchanged` (the job succeeds and changes nothing), `failed` (the attempt failed: try
-- again after a backoff, or give up at maxAttempts) or `back` (the job was not tried: its attempt doesn't count).
WITH result AS (
  SELECT *
  FROM unnest(
    CAST(:jobs AS text[]), CAST(:kinds AS text[]), CAST(:fits AS integer[]), CAST(:intents AS integer[]),
    CAST(:overalls AS integer[]), CAST(:reasonings AS text[]), CAST(:errors AS text[]), CAST(:waits AS double precision[])
  ) AS each (id, kind, fit, intent, overall, reasoning, error, wait)
),
held AS MATERIALIZED (
  SELECT
    result.*,
    job."leadId" AS lead,
    job."clientId" AS client,
    result.kind = 'failed' AND job.attempts >= job."maxAttempts" AS given_up,
    greatest(least(:longest_wait, power(2, job.attempts) + random()), least(:longest_wait, coalesce(result.wait, 0))) AS backoff
  FROM result
  JOIN {host}."BackgroundJob" AS job ON job.id = result.id
  WHERE job.status::text = 'RUNNING' AND job."lockedBy" = :holder
  ORDER BY job.id
  FOR NO KEY UPDATE OF job
),
-- A job that is reserved stays so while it waits for its retry: greatest() keeps it out of the host's queue.
ended AS (
  UPDATE {host}."BackgroundJob" AS job
  SET
    status = CASE
      WHEN held.kind IN ('scored', 'unchanged') THEN 'SUCCEEDED'::{host}."BackgroundJobStatus"
      WHEN held.given_up THEN 'FAILED'
      ELSE 'PENDING'
    END,
    attempts = CASE held.kind WHEN 'back' THEN greatest(job.attempts - 1, 0) ELSE job.attempts END,
    "runAt" = CASE
      WHEN held.kind = 'failed' AND NOT held.given_up
        THEN greatest(job."runAt", now() AT TIME ZONE 'UTC' + held.backoff * interval '1 second')
      ELSE job."runAt"
    END,
    "lastError" = CASE held.kind WHEN 'failed' THEN held.error WHEN 'back' THEN job."lastError" END,
    "lockedAt" = NULL,
    "lockedBy" = NULL,
    "startedAt" = CASE WHEN held.kind <> 'back' THEN job."startedAt" END,
    "finishedAt" = CASE
      WHEN held.kind IN ('scored', 'unchanged') OR held.given_up THEN now() AT TIME ZONE 'UTC'
    END,
    "updatedAt" = now() AT TIME ZONE 'UTC'
  FROM held
  WHERE job.id = held.id
  RETURNING job.id
),
lead AS MATERIALIZED (
  SELECT lead.id, held.fit, held.intent, held.overall, held.reasoning
  FROM held
  JOIN {host}."Lead" AS lead ON lead.id = held.lead AND lead."clientId" = held.client
  WHERE held.kind = 'scored'
  ORDER BY lead.id
  FOR NO KEY UPDATE OF lead
),
-- "updatedAt" is left unchanged: the host sorts its inbox by it.
scored AS (
  UPDATE {host}."Lead" AS target
  SET
    "fitScore" = lead.fit,
    "intentScore" = lead.intent,
    "overallScore" = lead.overall,
    "scoreReasoning" = lead.reasoning,
    "scoredAt" = now() AT TIME ZONE 'UTC'
  FROM lead
  WHERE target.id = lead.id
  RETURNING 1
)
SELECT
  (SELECT count(*) FROM scored) AS scored,
  count(*) FILTER (WHERE held.kind = 'failed' AND NOT held.given_up) AS retried,
  count(*) FILTER (WHERE held.given_up) AS failed,
  count(*) FILTER (WHERE held.kind = 'back') AS given_back,
  count(*) FILTER (WHERE held.kind IN ('scored', 'unchanged')) - (SELECT count(*) FROM scored) AS unchanged,
  (SELECT count(*) FROM result) - count(*) AS lost
FROM held
