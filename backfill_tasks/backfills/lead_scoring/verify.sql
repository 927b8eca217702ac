-- A stretch of leads: one row per eligible lead, with the data by which verdict.sql judges it, and a last row with the
-- end of the stretch and the number of leads looked at.
WITH lead AS MATERIALIZED (
  SELECT id, "clientId", "sentimentTag", "fitScore", "intentScore", "overallScore", "scoredAt", "createdAt"
  FROM {host}."Lead"
  WHERE (CAST(:lower AS text) IS NULL OR id > :lower) AND id <= :upper
  ORDER BY id
  LIMIT :rows
),
eligible AS (
  SELECT lead.*, greatest(lead."createdAt", inbound.first) AS eligible_since, job.id AS job_id, job.status::text AS job_status
  FROM lead
  CROSS JOIN LATERAL (
    SELECT min(message."createdAt") AS first
    FROM {host}."Message" AS message
    WHERE message."leadId" = lead.id AND message.direction = 'inbound'
  ) AS inbound
  -- A lateral subquery, looked up lead by lead: NOT EXISTS would be planned as a join with the whole table.
  LEFT JOIN LATERAL (
    SELECT job.id, job.status
    FROM {host}."BackgroundJob" AS job
    WHERE job."dedupeKey" = :key_prefix || lead.id
    LIMIT 1
  ) AS job ON true
  WHERE
    inbound.first IS NOT NULL
    AND (CAST(:client_ids AS text[]) IS NULL OR lead."clientId" = ANY (:client_ids))
)
SELECT
  NULL AS cursor, NULL AS looked_at,
  id, "sentimentTag", "fitScore", "intentScore", "overallScore", "scoredAt", eligible_since, job_id, job_status
FROM eligible
UNION ALL
SELECT
  CASE WHEN (SELECT count(*) FROM lead) = :rows THEN (SELECT max(id) FROM lead) ELSE :upper END,
  (SELECT count(*) FROM lead),
  NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
