-- A stretch of leads, to be judged by verdict.sql, and a last row that says where the stretch ends.
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
