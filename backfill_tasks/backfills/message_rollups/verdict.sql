-- Which leads have roll-ups that differ from their messages. `missing`: they match neither the current messages nor
-- those of the run's start, and no webhook has written them since the start (it may write a lead before its message).
-- `ahead`: newer than all messages, or without any message. The part "leads" is the statement that reads them,
-- verify.sql or verify_full.sql; its last row has the end of the stretch and no lead.
WITH lead AS MATERIALIZED (
{leads}
),
newest AS (
  SELECT
    id, "lastInboundAt", "lastOutboundAt", "lastZrgOutboundAt", "lastMessageAt", "lastMessageDirection", now,
    max("sentAt") FILTER (WHERE direction = 'inbound') AS inbound,
    max("sentAt") FILTER (WHERE direction = 'outbound') AS outbound,
    max("sentAt") FILTER (WHERE direction = 'outbound' AND source = 'zrg') AS zrg
  FROM lead
  CROSS JOIN (VALUES (true), (false)) AS moment (now)
  LEFT JOIN (SELECT "leadId", "sentAt", direction, source, "createdAt" FROM {host}."Message") AS message
    ON "leadId" = id AND (now OR "createdAt" < :started_at)
  WHERE id IS NOT NULL AND (CAST(:client_ids AS text[]) IS NULL OR "clientId" = ANY (:client_ids))
  GROUP BY 1, 2, 3, 4, 5, 6, 7
),
judged AS (
  SELECT
    id,
    bool_or(now AND was IS DISTINCT FROM exact) AS differs,
    bool_and(was IS DISTINCT FROM exact) AND (
      bool_or(NOT now AND last_at IS NOT NULL AND was IS DISTINCT FROM due)
      OR coalesce(max(greatest("lastInboundAt", "lastOutboundAt", "lastZrgOutboundAt", "lastMessageAt")) < :started_at, true)
    ) AS missing,
    bool_or(now AND (last_at IS NULL OR due IS DISTINCT FROM exact)) AS ahead
  FROM newest
  CROSS JOIN LATERAL (
    SELECT
      greatest(inbound, outbound) AS last_at,
      CASE WHEN coalesce(inbound >= outbound, inbound IS NOT NULL) THEN 'inbound' WHEN outbound IS NOT NULL THEN 'outbound' END
        AS last_direction
  ) AS last
  CROSS JOIN LATERAL (
    SELECT
      ROW("lastInboundAt", "lastOutboundAt", "lastZrgOutboundAt", "lastMessageAt", "lastMessageDirection") AS was,
      ROW(inbound, outbound, zrg, last_at, last_direction) AS exact,
      ROW(
        greatest("lastInboundAt", inbound), greatest("lastOutboundAt", outbound), greatest("lastZrgOutboundAt", zrg),
        greatest("lastMessageAt", last_at), CASE WHEN "lastMessageAt" > last_at THEN "lastMessageDirection" ELSE last_direction END
      ) AS due
  ) AS each
  GROUP BY id
)
SELECT
  (SELECT max(cursor) FROM lead) AS cursor,
  (SELECT count(id) FROM lead) AS looked_at,
  coalesce(array_agg(id ORDER BY id) FILTER (WHERE missing), ARRAY[]::text[]) AS missing,
  coalesce(array_agg(id ORDER BY id) FILTER (WHERE missing AND ahead), ARRAY[]::text[]) AS ahead,
  count(*) FILTER (WHERE differs AND NOT missing) AS arrived
FROM judged
