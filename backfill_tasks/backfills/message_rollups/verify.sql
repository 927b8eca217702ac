-- A stretch of leads. verdict.sql follows.
WITH lead AS MATERIALIZED (
  SELECT id, "clientId", "lastInboundAt", "lastOutboundAt", "lastZrgOutboundAt", "lastMessageAt", "lastMessageDirection"
  FROM {host}."Lead"
  WHERE (CAST(:lower AS text) IS NULL OR id > :lower) AND id <= :upper
  ORDER BY id
  LIMIT :rows
),
stretch AS (SELECT CASE WHEN (SELECT count(*) FROM lead) = :rows THEN (SELECT max(id) FROM lead) ELSE :upper END AS cursor)
