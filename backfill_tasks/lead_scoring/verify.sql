-- Leads of a stretch that should have a job or a score and have neither. Leads that became eligible only after the run
-- began (new, or without an inbound message until then) are counted apart: the host's own jobs are theirs.
WITH lead AS MATERIALIZED (
  SELECT id, "clientId", "sentimentTag", "overallScore", "createdAt"
  FROM {host}."Lead"
  WHERE (CAST(:lower AS text) IS NULL OR id > :lower) AND id <= :upper
  ORDER BY id
  LIMIT :rows
),
bare AS (
  SELECT lead.id, greatest(lead."createdAt", inbound.first) AS eligible_since
  FROM lead
  CROSS JOIN LATERAL (
    SELECT min(message."createdAt") AS first
    FROM {host}."Message" AS message
    WHERE message."leadId" = lead.id AND message.direction = 'inbound'
  ) AS inbound
  -- A subquery of its own, looked up lead by lead: as NOT EXISTS it would be planned as a join with the whole table.
  LEFT JOIN LATERAL (
    SELECT job.id
    FROM {host}."BackgroundJob" AS job
    WHERE job."dedupeKey" = :key_prefix || lead.id
    LIMIT 1
  ) AS job ON true
  WHERE
    inbound.first IS NOT NULL
    AND job.id IS NULL
    AND (CAST(:client_ids AS text[]) IS NULL OR lead."clientId" = ANY (:client_ids))
    AND (
      lead."overallScore" IS NULL
      OR (:rescore_all AND NOT coalesce(lead."sentimentTag" = ANY (:disqualifying), false))
    )
)
SELECT
  CASE WHEN (SELECT count(*) FROM lead) = :rows THEN (SELECT max(id) FROM lead) ELSE :upper END AS cursor,
  (SELECT coalesce(array_agg(id ORDER BY id), '{{}}') FROM bare WHERE eligible_since < :started_at) AS missing,
  (SELECT count(*) FROM bare WHERE eligible_since >= :started_at) AS arrived
