-- Jobs of three origins: those left over from earlier backfills, in every status; the host's own scoring jobs; and the
-- host's jobs of other types. Nearly all of the host's own are done, so its queue is short.

INSERT INTO "BackgroundJob" (
  "id", "type", "status", "dedupeKey", "clientId", "leadId", "messageId", "draftId", "runAt", "attempts", "maxAttempts",
  "lockedAt", "lockedBy", "startedAt", "finishedAt", "lastError", "createdAt", "updatedAt"
)
WITH
  answering AS (
    SELECT
      *,
      2 - opens AS first_inbound,
      pg_temp.id('message', n * 8 + last_inbound) AS newest_message,
      pg_temp.pick(
        array_fill('SUCCEEDED'::TEXT, ARRAY[197]) || ARRAY['PENDING', 'FAILED', 'RUNNING'],
        pg_temp.draw(n, 'status of the host')
      ) AS host_status
    FROM sample_plan
    WHERE answers
  ),
  job AS (
    -- Earlier backfills ran in the last month. Their anchor is the oldest inbound message: newer ones may have arrived
    -- since.
    SELECT
      n * 4 AS j,
      'LEAD_SCORING_POST_PROCESS' AS type,
      job AS status,
      'lead_scoring_backfill:' || id AS dedupe_key,
      client_id,
      id AS lead_id,
      pg_temp.id('message', n * 8 + first_inbound) AS message_id,
      3 AS max_attempts,
      greatest(
        created_at + pace * first_inbound,
        %(until)s - INTERVAL '30 days' * pg_temp.draw(n, 'earlier backfill')
      ) AS made_at
    FROM answering
    WHERE job IS NOT NULL
    UNION ALL
    SELECT
      n * 4 + 1,
      'LEAD_SCORING_POST_PROCESS',
      host_status,
      'lead_scoring:' || id || ':' || newest_message,
      client_id,
      id,
      newest_message,
      5,
      created_at + pace * last_inbound
    FROM answering
    WHERE is_case OR pg_temp.draw(n, 'scored live') < 0.1
    UNION ALL
    SELECT
      n * 4 + 2,
      type,
      host_status,
      lower(type) || ':' || newest_message,
      client_id,
      id,
      newest_message,
      5,
      created_at + pace * last_inbound
    FROM
      answering
      CROSS JOIN LATERAL pg_temp.pick(
        ARRAY[
          'EMAIL_INBOUND_POST_PROCESS', 'EMAIL_INBOUND_POST_PROCESS', 'SMS_INBOUND_POST_PROCESS',
          'LINKEDIN_INBOUND_POST_PROCESS', 'SMARTLEAD_INBOUND_POST_PROCESS', 'INSTANTLY_INBOUND_POST_PROCESS',
          'CONVERSATION_SYNC', 'AI_AUTO_SEND_DELAYED'
        ],
        pg_temp.draw(n, 'type')
      ) AS type
    WHERE is_case OR pg_temp.draw(n, 'handled') < 0.15
  ),
  tried AS (
    SELECT
      *,
      CASE status
        WHEN 'PENDING' THEN floor(3 * pg_temp.draw(j, 'attempts'))::INTEGER
        WHEN 'FAILED' THEN max_attempts
        ELSE 1
      END AS attempts
    FROM job
  ),
  timed AS (
    SELECT
      *,
      CASE status
        -- Some are due, some not yet.
        WHEN 'PENDING' THEN %(until)s + INTERVAL '2 hours' * (pg_temp.draw(j, 'due') - 0.5)
        -- Some locks are older than ten minutes, after which the host treats them as stale.
        WHEN 'RUNNING' THEN %(until)s - INTERVAL '20 minutes' * pg_temp.draw(j, 'locked')
        ELSE made_at + least(INTERVAL '1 hour' * pg_temp.draw(j, 'waited'), (%(until)s - made_at) / 2)
      END AS run_at
    FROM tried
  )
SELECT
  pg_temp.id('job', j),
  type::"BackgroundJobType",
  status::"BackgroundJobStatus",
  dedupe_key,
  client_id,
  lead_id,
  message_id,
  CASE WHEN type = 'AI_AUTO_SEND_DELAYED' THEN pg_temp.id('draft', j) END,
  run_at,
  attempts,
  max_attempts,
  CASE WHEN status = 'RUNNING' THEN run_at END,
  CASE WHEN status = 'RUNNING' THEN 'cron-' || left(pg_temp.digest('lock', j), 8) END,
  CASE WHEN attempts > 0 THEN least(run_at, %(until)s - INTERVAL '1 second') END,
  CASE WHEN status IN ('SUCCEEDED', 'FAILED') THEN run_at + least(INTERVAL '4 seconds', (%(until)s - run_at) / 2) END,
  CASE WHEN status = 'FAILED' OR (status = 'PENDING' AND attempts > 0) THEN
    pg_temp.pick(
      ARRAY[
        'Request timed out after 20000 ms', '429 Too Many Requests', '503 Service Unavailable',
        'Released stale RUNNING lock'
      ],
      pg_temp.draw(j, 'error')
    )
  END,
  least(made_at, run_at),
  least(run_at, %(until)s)
FROM timed;
