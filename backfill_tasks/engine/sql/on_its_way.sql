-- A condition on a row `lane` of backfill.lane and its `run`: a page of the lane should be on its way, or be done.
(
  run.state = 'running'
  AND lane.state = 'running'
  -- Of a single batch one lane is on its way; the others wait for whoever resumes the run.
  AND (
    NOT run.single_batch
    OR lane.number = (SELECT min(other.number) FROM backfill.lane AS other
                      WHERE other.run_id = run.id AND other.state = 'running')
  )
)
