-- Like verify.sql, for many stretches at once and without any index: each table is read once, from end to end, and
-- joined by hash. So a damaged index hides no row here.
WITH bounds AS MATERIALIZED (
  SELECT lower, upper FROM unnest(CAST(:lowers AS text[]), CAST(:uppers AS text[])) AS bounds (lower, upper)
),
lead AS MATERIALIZED (
  SELECT id, "clientId", "sentimentTag", "fitScore", "intentScore", "overallScore", "scoredAt", "createdAt"
  FROM {host}."Lead"
  WHERE EXISTS (SELECT FROM bounds WHERE (lower IS NULL OR id > lower) AND id <= upper)
),
inbound AS (
  SELECT "leadId" AS lead, min("createdAt") AS first FROM {host}."Message" WHERE direction = 'inbound' GROUP BY 1
),
job AS (
  SELECT id, status, substr("dedupeKey", length(:key_prefix) + 1) AS lead
  FROM {host}."BackgroundJob"
  WHERE starts_with("dedupeKey", :key_prefix)
),
eligible AS (
  SELECT lead.*, greatest(lead."createdAt", inbound.first) AS eligible_since, job.id AS job_id, job.status::text AS job_status
  FROM lead
  JOIN inbound ON inbound.lead = lead.id
  LEFT JOIN job ON job.lead = lead.id
  WHERE CAST(:client_ids AS text[]) IS NULL OR lead."clientId" = ANY (:client_ids)
)
SELECT
  NULL AS cursor, NULL AS looked_at,
  id, "sentimentTag", "fitScore", "intentScore", "overallScore", "scoredAt", eligible_since, job_id, job_status
FROM eligible
UNION ALL
SELECT (SELECT max(upper) FROM bounds), (SELECT count(*) FROM lead), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
