-- What a page whose turn it is has to know of its run: a statement of its own, so that its snapshot is younger than the
-- turn. What the lanes have counted of these classes is what the run has enqueued so far.
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
