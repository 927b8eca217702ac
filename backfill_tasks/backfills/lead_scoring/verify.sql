-- A stretch of leads: a row for each eligible one with what there is of it, to be judged by verdict.sql, and a last row
-- that says where the stretch ends and how many leads were looked at.
WITH lead AS MATERIALIZED (
  SELECT id, "clientId", "sentimentTag", "overallScore", "scoredAt", "createdAt"
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
  -- A subquery of its own, looked up lead by lead: as NOT EXISTS it would be planned as a join with the whole table.
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
  id, "sentimentTag", "overallScore", "scoredAt", eligible_since, job_id, job_status
FROM eligible
UNION ALL
SELECT
  CASE WHEN (SELECT count(*) FROM lead) = :rows THEN (SELECT max(id) FROM lead) ELSE :upper END,
  (SELECT count(*) FROM lead),
  NULL, NULL, NULL, NULL, NULL, NULL, NULL
