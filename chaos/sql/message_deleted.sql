-- Conversation sync deletes a duplicate message of a lead just ahead of a lane, and the message's jobs.
DELETE FROM "Message"
WHERE id = (
  SELECT message.id
  FROM backfill.lane
  JOIN LATERAL (
    SELECT id FROM "Lead"
    WHERE id > coalesce(lane.cursor, lane.lower_bound, '') AND id <= lane.upper_bound
    ORDER BY id OFFSET floor(%(near)s * 40)::int LIMIT 1
  ) AS lead ON true
  JOIN "Message" AS message ON message."leadId" = lead.id
  WHERE EXISTS (SELECT FROM "Message" AS other WHERE other."leadId" = lead.id AND other.id <> message.id)
  ORDER BY md5(%(token)s || lane.number), message."sentAt" DESC LIMIT 1
)
