-- The running runs, each with the only lane that may move; null: all may. Each running lane that may move should have a
-- page in flight, or be done.
SELECT
  run.id AS run_id,
  -- Only one lane of a single batch has a page in flight, from its seeding to its end. The others wait for a resume.
  CASE WHEN run.single_batch THEN coalesce(
    run.batch_lane,
    -- A run started by an older version doesn't record its lane.
    (SELECT min(lane.number) FROM backfill.lane WHERE lane.run_id = run.id AND lane.state = 'running')
  ) END AS only_lane
FROM backfill.run
WHERE run.state = 'running'
