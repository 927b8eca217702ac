-- The running runs, each with the only lane of it that may move; null: all may. A page of each running lane that may move
-- should be on its way, or be done.
SELECT
  run.id AS run_id,
  -- A single batch has one lane on its way, from its seeding to its end. The others wait for a resume.
  CASE WHEN run.single_batch THEN coalesce(
    run.batch_lane,
    -- A run of an older version doesn't name it.
    (SELECT min(lane.number) FROM backfill.lane WHERE lane.run_id = run.id AND lane.state = 'running')
  ) END AS only_lane
FROM backfill.run
WHERE run.state = 'running'
