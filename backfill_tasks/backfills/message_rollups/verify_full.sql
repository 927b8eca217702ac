-- The leads of many stretches at once, read from end to end: a damaged index hides none of them. A last row
-- has the end of the last stretch. verdict.sql judges the leads.
WITH bounds AS MATERIALIZED (
  SELECT lower, upper FROM unnest(CAST(:lowers AS text[]), CAST(:uppers AS text[])) AS bounds (lower, upper)
)
SELECT
  NULL AS cursor,
  id, "clientId", "lastInboundAt", "lastOutboundAt", "lastZrgOutboundAt", "lastMessageAt", "lastMessageDirection"
FROM {host}."Lead"
WHERE EXISTS (SELECT FROM bounds WHERE (lower IS NULL OR id > lower) AND id <= upper)
UNION ALL
SELECT max(upper), NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM bounds
