-- A condition on a row `lane` of backfill.lane and its `run`: a page of the lane should be on its way, or be done.
(
  run.state = 'running'
  AND lane.state = 'running'
  -- A single batch has one lane on its way, from its seeding to its end. The others wait for a resume.
  AND (
    NOT run.single_batch
    OR lane.number = coalesce(
      run.batch_lane,
      -- A run of an older version doesn't name it.
      (SELECT min(other.number) FROM backfill.lane AS other WHERE other.run_id = run.id AND other.state = 'running')
    )
  )
)
