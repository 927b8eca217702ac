-- The leads of one page, in id order: those whose roll-ups lag behind their messages. `was` is what a lead has, `due`
-- what it should have: the newest time of each kind, and never an earlier one than it has. A roll-up newer than every
-- message was written by a webhook whose message is still to come. Of two messages with the same sentAt, the inbound
-- one is last.
SELECT lead.id, lead."clientId" AS client_id, lead.was, due.*
FROM (
  SELECT
    id, "clientId", "lastInboundAt", "lastOutboundAt", "lastZrgOutboundAt", "lastMessageAt", "lastMessageDirection",
    ROW("lastInboundAt", "lastOutboundAt", "lastZrgOutboundAt", "lastMessageAt", "lastMessageDirection") AS was
  FROM {host}."Lead"
  WHERE (CAST(:lower AS text) IS NULL OR id > :lower) AND id <= :upper
  ORDER BY id
  LIMIT :rows
) AS lead
CROSS JOIN LATERAL (
  SELECT
    max("sentAt") FILTER (WHERE direction = 'inbound') AS inbound,
    max("sentAt") FILTER (WHERE direction = 'outbound') AS outbound,
    max("sentAt") FILTER (WHERE direction = 'outbound' AND source = 'zrg') AS zrg
  FROM {host}."Message" AS message
  WHERE message."leadId" = lead.id
) AS newest
CROSS JOIN LATERAL (
  SELECT CASE WHEN inbound >= outbound OR outbound IS NULL AND inbound IS NOT NULL THEN 'inbound'
    WHEN outbound IS NOT NULL THEN 'outbound' END AS last_direction
) AS last
CROSS JOIN LATERAL (
  SELECT
    greatest("lastInboundAt", inbound) AS inbound_at,
    greatest("lastOutboundAt", outbound) AS outbound_at,
    greatest("lastZrgOutboundAt", zrg) AS zrg_at,
    greatest("lastMessageAt", inbound, outbound) AS message_at,
    CASE WHEN "lastMessageAt" > greatest(inbound, outbound) THEN "lastMessageDirection" ELSE last_direction END AS direction
) AS due
WHERE
  coalesce(inbound, outbound) IS NOT NULL
  AND was IS DISTINCT FROM ROW(inbound_at, outbound_at, zrg_at, message_at, due.direction)
  AND (CAST(:client_ids AS text[]) IS NULL OR "clientId" = ANY (:client_ids))
ORDER BY lead.id
LIMIT :limit
