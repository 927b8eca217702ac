-- A message for a lead just ahead of a lane, and its live scoring job: the page may find a newer anchor than it locked.
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
  message AS (
    INSERT INTO "Message" (id, body, direction, "leadId", "sentAt")
    SELECT 'newest-' || %(token)s, 'Hello again', 'inbound', id, now() AT TIME ZONE 'UTC' FROM near
    RETURNING id, "leadId"
  )
INSERT INTO "BackgroundJob" (id, type, "dedupeKey", "clientId", "leadId", "messageId", "runAt", "updatedAt")
SELECT
  'live-' || %(token)s, 'LEAD_SCORING_POST_PROCESS', 'lead_scoring:' || near.id || ':' || message.id,
  near."clientId", near.id, message.id, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC'
FROM near JOIN message ON message."leadId" = near.id
