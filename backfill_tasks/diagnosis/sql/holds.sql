-- The kind of reason for which the next page of each of these lanes was last postponed.
SELECT DISTINCT ON (lane.run_id, lane.number) lane.run_id, lane.number, hold.kind
FROM backfill.lane
JOIN backfill.hold
  ON hold.run_id = lane.run_id AND hold.lane = lane.number
  AND hold.page = lane.page + 1 AND hold.generation = lane.generation
WHERE (lane.run_id, lane.number) IN (SELECT * FROM unnest(CAST(:runs AS text[]), CAST(:lanes AS int[])))
ORDER BY lane.run_id, lane.number, hold.until DESC
