-- Lanes of running runs that have not moved for a while although the ledger knows of no reason to wait.
SELECT lane.run_id, lane.number, lane.page, lane.generation
FROM (
{sql/running.sql}
) AS running
JOIN backfill.lane ON lane.run_id = running.run_id AND lane.number = coalesce(running.only_lane, lane.number)
WHERE
  lane.state = 'running'
  AND greatest(lane.moved_at, lane.held_until) < now() - :seconds * interval '1 second'
ORDER BY lane.run_id, lane.number
