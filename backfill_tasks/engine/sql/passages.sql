-- The newest runs of a backfill with their lanes, newest first, and each run's quarantine entry of an item. Reads the
-- quarantine by its primary key, and no page.
SELECT
  run.id, run.state AS run_state, run.reason AS run_reason, run.parameters, run.started_at,
  quarantine.error,
  lane.number, lane.lower_bound, lane.upper_bound, lane.cursor, lane.page, lane.state, lane.reason
FROM (
  SELECT * FROM backfill.run WHERE backfill = :backfill ORDER BY started_at DESC, id DESC LIMIT :most
) AS run
LEFT JOIN backfill.quarantine ON quarantine.run_id = run.id AND quarantine.item = :item
LEFT JOIN backfill.lane ON lane.run_id = run.id
ORDER BY run.started_at DESC, run.id DESC, lane.number
