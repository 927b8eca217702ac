-- A new lead just ahead of a lane, its first message, and the live job that a webhook writes for it.
WITH
  near AS (
    SELECT lead.id, lead."clientId"
    FROM backfill.lane
    JOIN LATERAL (
      SELECT id, "clientId" FROM "Lead"
      WHERE id > coalesce(lane.cursor, lane.lower_bound, '') AND id <= lane.upper_bound
      ORDER BY id OFFSET floor(%(near)s * 40)::int LIMIT 1
    ) AS lead ON true
    ORDER BY md5(%(token)s || lane.number) LIMIT 1
  ),
  lead AS (
    INSERT INTO "Lead" (id, "clientId", "updatedAt")
    SELECT id || '-' || %(token)s, "clientId", now() AT TIME ZONE 'UTC' FROM near
    RETURNING id, "clientId"
  ),
  message AS (
    INSERT INTO "Message" (id, body, direction, "leadId", "sentAt")
    SELECT 'first-' || %(token)s, 'Hello', 'inbound', id, now() AT TIME ZONE 'UTC' FROM lead
    RETURNING id, "leadId"
  )
INSERT INTO "BackgroundJob" (id, type, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "updatedAt")
SELECT
  'live-' || %(token)s, 'EMAIL_INBOUND_POST_PROCESS', 'email:' || message.id, lead."clientId", lead.id, message.id,
  now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
FROM lead JOIN message ON message."leadId" = lead.id
