-- The leads of many stretches at once, read from end to end: an index that has lost rows hides none. verdict.sql follows.
WITH bounds AS MATERIALIZED (
  SELECT lower, upper FROM unnest(CAST(:lowers AS text[]), CAST(:uppers AS text[])) AS bounds (lower, upper)
),
lead AS MATERIALIZED (
  SELECT id, "clientId", "lastInboundAt", "lastOutboundAt", "lastZrgOutboundAt", "lastMessageAt", "lastMessageDirection"
  FROM {host}."Lead"
  WHERE EXISTS (SELECT FROM bounds WHERE (lower IS NULL OR id > lower) AND id <= upper)
),
stretch AS (SELECT max(upper) AS cursor FROM bounds)
