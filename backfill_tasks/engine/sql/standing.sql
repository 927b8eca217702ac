-- Lanes of running runs that have not moved for a while though nothing that the ledger knows of holds them back.
SELECT lane.run_id, lane.number, lane.page, lane.generation
FROM backfill.lane
JOIN backfill.run ON run.id = lane.run_id
WHERE
  run.state = 'running'
  AND lane.state = 'running'
  -- Of a single batch one lane is on its way; the others wait for whoever resumes the run.
  AND (
    NOT run.single_batch
    OR lane.number = (SELECT min(other.number) FROM backfill.lane AS other
                      WHERE other.run_id = run.id AND other.state = 'running')
  )
  AND greatest(lane.moved_at, lane.held_until) < now() - :seconds * interval '1 second'
ORDER BY lane.run_id, lane.number
