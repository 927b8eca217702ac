-- Which of these runs have nothing left to walk, and why they failed (no reason: they are complete). Run after each
-- lane's own commit, so whichever lane ends last sees all the others. A single batch whose lane failed has ended, too:
-- none of its other lanes may move. A run whose lanes row-level security hides has not ended.
SELECT run.id, lanes.failed IS NOT NULL AS failed, lanes.reason
FROM backfill.run
CROSS JOIN LATERAL (
  SELECT
    bool_or(state = 'running') AS running,
    array_agg(number) FILTER (WHERE state = 'failed') AS failed,
    min('lane ' || number || ': ' || reason) FILTER (WHERE state = 'failed') AS reason
  FROM backfill.lane
  WHERE run_id = run.id
) AS lanes
WHERE
  run.id = ANY (:runs)
  AND (lanes.running IS NOT TRUE OR (run.single_batch AND run.batch_lane = ANY (lanes.failed)))
  AND NOT row_security_active('backfill.lane')
ORDER BY run.id
