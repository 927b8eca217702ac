-- A stretch of leads for verdict.sql to judge, and a last row with the end of the stretch.
WITH lead AS MATERIALIZED (
  SELECT id, "clientId", "lastInboundAt", "lastOutboundAt", "lastZrgOutboundAt", "lastMessageAt", "lastMessageDirection"
  FROM {host}."Lead"
  WHERE (CAST(:lower AS text) IS NULL OR id > :lower) AND id <= :upper
  ORDER BY id
  LIMIT :rows
)
SELECT NULL AS cursor, lead.* FROM lead
UNION ALL
SELECT
  CASE WHEN (SELECT count(*) FROM lead) = :rows THEN (SELECT max(id) FROM lead) ELSE :upper END,
  NULL, NULL, NULL, NULL, NULL, NULL, NULL
