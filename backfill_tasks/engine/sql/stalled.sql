-- Lanes of running runs that have not moved for a while though nothing that the ledger knows of holds them back.
SELECT lane.run_id, lane.number, lane.page, lane.generation
FROM backfill.lane
JOIN backfill.run ON run.id = lane.run_id
WHERE
  {on_its_way}
  AND greatest(lane.moved_at, lane.held_until) < now() - :seconds * interval '1 second'
ORDER BY lane.run_id, lane.number
