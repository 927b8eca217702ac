-- What a page needs to know of its run once it has its turn. A separate statement, so that its snapshot is newer than
-- the turn. The lanes' counts of these classes add up to the jobs the run has enqueued so far.
SELECT
  run.state, run.ordinal, run.due_at,
  (
    SELECT coalesce(sum(counted.items::bigint), 0)
    FROM backfill.lane
    CROSS JOIN LATERAL jsonb_each_text(lane.counts) AS counted (class, items)
    WHERE lane.run_id = run.id AND counted.class = ANY (:jobs)
  ) AS jobs
FROM backfill.run
WHERE run.id = :run
