-- A run ends when none of its lanes is still on its way. Called after each lane's own commit, so whichever lane ends last
-- sees all the others; called again, it finds nothing to do. A single batch whose lane failed ends too: no other of its
-- lanes may move. Lanes that row-level security hides have not ended.
UPDATE backfill.run
SET
  state = CASE WHEN failed.lanes > 0 THEN 'failed' ELSE 'complete' END,
  reason = failed.reason,
  finished_at = date_trunc('milliseconds', now())
FROM (
  SELECT
    count(*) FILTER (WHERE state = 'failed') AS lanes,
    min('lane ' || number || ': ' || reason) FILTER (WHERE state = 'failed') AS reason,
    array_agg(number) FILTER (WHERE state = 'failed') AS numbers
  FROM backfill.lane
  WHERE run_id = :run
) AS failed
WHERE
  run.id = :run
  AND run.state IN ('running', 'paused')
  AND (
    NOT EXISTS (SELECT FROM backfill.lane WHERE run_id = :run AND state = 'running')
    OR (run.single_batch AND run.batch_lane = ANY (failed.numbers))
  )
  AND NOT row_security_active('backfill.lane')
RETURNING run.state
