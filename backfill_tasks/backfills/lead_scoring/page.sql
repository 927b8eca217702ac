-- One page: disqualify, upsert and count, all in this one statement.
--
-- The host keeps working meanwhile, so rows are selected in the statement's snapshot and then locked. A row that has
-- changed in between is counted in no class: the classes no longer add up to `read`, and the caller rolls back and
-- retries with a fresh snapshot.
WITH picked AS MATERIALIZED (
{lead_scoring/selection.sql}
),
-- A full page ends at its last lead.
page_end AS (
  SELECT CASE WHEN count(DISTINCT id) = :limit THEN max(id) ELSE ({host/page_end.sql}) END AS cursor FROM picked
),
-- The jobs to enqueue, and when they are due. With a delay: the n-th job of the run is due n delays after the run's
-- start. Spaced: one after another behind the run's last job, and none in the past, so that delayed jobs don't all
-- become due at once. Reserved for our own workers: not before :reserve_seconds have passed. Otherwise: just before the
-- host's next drain, so that any live job that has arrived by then goes first.
due AS MATERIALIZED (
  SELECT
    picked.*,
    CASE
      WHEN :delay_ms > 0 THEN
        CAST(:started_at AS timestamp)
        + (:ordinal + row_number() OVER (ORDER BY picked.id)) * :delay_ms * interval '1 millisecond'
      WHEN :spacing_ms > 0 THEN
        -- Not now(): the transaction may have waited long for its turn.
        greatest(
          CAST(:due_at AS timestamp),
          statement_timestamp() AT TIME ZONE 'UTC' + CAST(:reserve_seconds AS double precision) * interval '1 second'
        )
        + row_number() OVER (ORDER BY picked.id) * CAST(:spacing_ms AS double precision) * interval '1 millisecond'
      WHEN :reserve_seconds > 0 THEN statement_timestamp() AT TIME ZONE 'UTC' + :reserve_seconds * interval '1 second'
      WHEN :drain_seconds > 0 THEN
        CAST(to_timestamp(
          ceil((extract(epoch FROM statement_timestamp()) + :drain_lead_seconds) / :drain_seconds) * :drain_seconds - :drain_lead_seconds
        ) AT TIME ZONE 'UTC' AS timestamp)
      -- Behind every live job that has arrived while the page waited for its turn.
      ELSE statement_timestamp() AT TIME ZONE 'UTC'
    END AS run_at
  FROM picked
  WHERE picked.class NOT IN ('in_flight', 'disqualified')
),
-- Existing jobs that may be reset, locked until the page commits. A job whose status has changed since the snapshot is
-- left out, and so counted in no class. Jobs in flight aren't locked at all.
locked AS MATERIALIZED (
  SELECT due.id, due.class, due.client_id, due.job_id, due.anchor, due.run_at
  FROM due
  JOIN {host}."BackgroundJob" AS job ON job.id = due.job_id
  WHERE job.status::text = due.job_status
  ORDER BY due.id
  FOR NO KEY UPDATE OF job
),
-- "createdAt" is the time of the page itself, by which recount.sql finds the job again.
inserted AS (
  INSERT INTO {host}."BackgroundJob" (
    id, type, status, "dedupeKey", "clientId", "leadId", "messageId",
    "runAt", attempts, "maxAttempts", "createdAt", "updatedAt"
  )
  SELECT
    gen_random_uuid()::text, 'LEAD_SCORING_POST_PROCESS', 'PENDING', :key_prefix || due.id, due.client_id, due.id, due.anchor,
    due.run_at, 0, :max_attempts, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
  FROM due
  WHERE due.job_id IS NULL
  ORDER BY due.id
  ON CONFLICT ("dedupeKey") DO NOTHING
  RETURNING "leadId" AS id
),
-- Every column that an INSERT would set: the host ignores a job whose clientId is not its lead's, and the type decides
-- what the host does.
renewed AS (
  UPDATE {host}."BackgroundJob" AS job
  SET
    type = 'LEAD_SCORING_POST_PROCESS',
    status = 'PENDING',
    "clientId" = locked.client_id,
    "leadId" = locked.id,
    "maxAttempts" = :max_attempts,
    attempts = 0,
    "runAt" = locked.run_at,
    "messageId" = locked.anchor,
    "lockedAt" = NULL,
    "lockedBy" = NULL,
    "startedAt" = NULL,
    "finishedAt" = NULL,
    "lastError" = NULL,
    "updatedAt" = now() AT TIME ZONE 'UTC'
  FROM locked
  WHERE job.id = locked.job_id
  RETURNING locked.id, locked.class
),
-- "updatedAt" is left unchanged: the host sorts its inbox by it.
disqualified AS (
  UPDATE {host}."Lead" AS lead
  SET
    "fitScore" = 1,
    "intentScore" = 1,
    "overallScore" = 1,
    "scoredAt" = now() AT TIME ZONE 'UTC',
    "scoreReasoning" = :disqualified_reasoning || picked.tag
  FROM picked
  WHERE
    picked.disqualified
    AND lead.id = picked.id
    AND lead."sentimentTag" = picked.tag
    AND (:rescore_all OR lead."overallScore" IS NULL)
  RETURNING 1
)
SELECT
  (SELECT cursor FROM page_end) AS cursor,
  (SELECT count(DISTINCT id) FROM picked) AS read,
  (SELECT count(*) FROM inserted) AS inserted,
  (SELECT count(*) FROM renewed WHERE class = 'requeued') AS requeued,
  (SELECT count(*) FROM renewed WHERE class = 'refreshed') AS refreshed,
  (SELECT count(*) FROM picked WHERE class = 'in_flight') AS in_flight,
  (SELECT count(*) FROM disqualified) AS disqualified,
  (SELECT max(run_at) FROM due) AS due_at,
  (
    SELECT coalesce(array_agg(id), ARRAY[]::text[]) FROM (SELECT id FROM inserted UNION ALL SELECT id FROM renewed) AS written
  ) AS enqueued
