-- A lead just ahead of a lane opts out, or back in.
UPDATE "Lead"
SET
  "sentimentTag" = CASE "sentimentTag" WHEN 'Blacklist' THEN NULL ELSE 'Blacklist' END,
  "updatedAt" = now() AT TIME ZONE 'UTC'
WHERE id = (
  SELECT lead.id
  FROM backfill.lane
  JOIN LATERAL (
    SELECT id FROM "Lead"
    WHERE id > coalesce(lane.cursor, lane.lower_bound, '') AND id <= lane.upper_bound
    ORDER BY id OFFSET floor(%(near)s * 40)::int LIMIT 1
  ) AS lead ON true
  ORDER BY md5(%(token)s || lane.number) LIMIT 1
)
