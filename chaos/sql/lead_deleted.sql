-- Delete a lead just ahead of a lane, with its messages and jobs.
DELETE FROM "Lead"
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
