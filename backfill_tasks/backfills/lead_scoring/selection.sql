-- The leads of one page, in id order: both the page and its dry run use this selection.
--
-- It is fast on any table. The innermost SELECT is an index scan of the primary key that reads at most :rows leads; the
-- LIMIT around it stops that scan as soon as the page is full. So a dense table costs about :limit rows and a sparse
-- one never more than :rows.
--
-- Each lead comes with its existing job, if any, in this statement's snapshot, and with the class that follows from it.
-- The page and the dry run both count by this class. A job may be reset only if its status is PENDING or a final one;
-- otherwise the host is working on it, or its status is unknown to this version.
WITH picked AS MATERIALIZED (
  SELECT
    lead.id,
    lead."clientId" AS client_id,
    lead."sentimentTag" AS tag,
    coalesce(lead."sentimentTag" = ANY (:disqualifying), false) AS disqualified,
    anchor.id AS anchor
  FROM (
    SELECT id, "clientId", "sentimentTag", "overallScore"
    FROM {host}."Lead"
    WHERE (CAST(:lower AS text) IS NULL OR id > :lower) AND id <= :upper
    ORDER BY id
    LIMIT :rows
  ) AS lead
  -- The anchor: the newest inbound message. The id breaks ties between equal sentAt, always in the same way.
  CROSS JOIN LATERAL (
    SELECT message.id
    FROM {host}."Message" AS message
    WHERE message."leadId" = lead.id AND message.direction = 'inbound'
    ORDER BY message."sentAt" DESC, message.id DESC
    LIMIT 1
  ) AS anchor
  WHERE
    (:rescore_all OR lead."overallScore" IS NULL)
    AND (CAST(:client_ids AS text[]) IS NULL OR lead."clientId" = ANY (:client_ids))
  ORDER BY lead.id
  LIMIT :limit
)
SELECT
  picked.*, job.id AS job_id, job.status::text AS job_status,
  CASE
    WHEN picked.disqualified THEN 'disqualified'
    WHEN job.id IS NULL THEN 'inserted'
    WHEN job.status::text = 'PENDING' THEN 'refreshed'
    WHEN job.status::text IN ('SUCCEEDED', 'FAILED') THEN 'requeued'
    ELSE 'in_flight'
  END AS class
FROM picked
LEFT JOIN {host}."BackgroundJob" AS job ON job."dedupeKey" = :key_prefix || picked.id AND NOT picked.disqualified
