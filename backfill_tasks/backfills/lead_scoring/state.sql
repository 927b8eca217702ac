-- One lead and its job, as `backfill why` explains them: no text of a message, no name, no address. Always one row; reads
-- by the primary key, by the index on dedupeKey, and the lead's messages by the index on leadId.
SELECT
  now() AS seen_at,
  lead.id IS NOT NULL AS exists,
  lead."clientId" AS client,
  CASE WHEN lead."sentimentTag" = ANY (:disqualifying) THEN lead."sentimentTag" END AS tag,
  lead."overallScore" AS score,
  coalesce(starts_with(lead."scoreReasoning", :disqualified_reasoning), false) AS scored_by_page,
  job.id AS job,
  job.type::text AS job_type,
  coalesce(job.status::text, 'NULL') AS job_status,
  job."clientId" AS job_client,
  job.attempts,
  job."maxAttempts" AS max_attempts,
  job."lockedBy" AS locked_by,
  job."lastError" AS last_error,
  times.*
FROM (VALUES (CAST(:item AS text))) AS asked (item)
LEFT JOIN {host}."Lead" AS lead ON lead.id = :item
LEFT JOIN LATERAL (
  SELECT min(message."createdAt") AS first
  FROM {host}."Message" AS message
  WHERE message."leadId" = lead.id AND message.direction = 'inbound'
) AS inbound ON true
LEFT JOIN LATERAL (
  SELECT * FROM {host}."BackgroundJob" WHERE "dedupeKey" = :key_prefix || asked.item LIMIT 1
) AS job ON true
-- Times outside the range that clients can read, infinity included, are moved to its ends.
CROSS JOIN LATERAL (
  SELECT
    max(at) FILTER (WHERE name = 'scored') AS scored_at,
    max(at) FILTER (WHERE name = 'created') AS created_at,
    max(at) FILTER (WHERE name = 'first inbound') AS first_inbound_at,
    max(at) FILTER (WHERE name = 'run') AS run_at,
    max(at) FILTER (WHERE name = 'locked') AS locked_at,
    max(at) FILTER (WHERE name = 'started') AS job_started_at,
    max(at) FILTER (WHERE name = 'finished') AS finished_at,
    max(at) FILTER (WHERE name = 'job created') AS job_created_at
  FROM (
    VALUES
      ('scored', lead."scoredAt"),
      ('created', lead."createdAt"),
      ('first inbound', inbound.first),
      ('run', job."runAt"),
      ('locked', job."lockedAt"),
      ('started', job."startedAt"),
      ('finished', job."finishedAt"),
      ('job created', job."createdAt")
  ) AS each (name, host)
  CROSS JOIN LATERAL (
    SELECT
      CASE
        WHEN host < timestamp '1970-01-01' THEN timestamp '1970-01-01'
        WHEN host > timestamp '9000-01-01' THEN timestamp '9000-01-01'
        ELSE host
      END AT TIME ZONE 'UTC' AS at
  ) AS readable
) AS times
