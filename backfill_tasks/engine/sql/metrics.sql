-- The runs worth watching, one row per lane: the newest runs, and those that an operator may still resume. The cost
-- doesn't grow with the number of runs in the ledger: only these are read, and of each only its lanes, by key.
WITH watched AS MATERIALIZED (
  (SELECT * FROM backfill.run WHERE state = ANY (:unfinished) ORDER BY started_at DESC, id DESC LIMIT :most_unfinished)
  UNION
  (SELECT * FROM backfill.run ORDER BY started_at DESC, id DESC LIMIT :newest)
)
SELECT
  run.id, run.backfill, run.state AS run_state, run.started_at, run.finished_at, run.expected,
  lane.number, lane.state, lane.page, lane.generation, lane.counts,
  lane.reason IS NOT NULL AND lane.held_until > now() AS held,
  -- How long the lane has not moved although the ledger knows of no reason to wait.
  CASE
    WHEN running.run_id IS NOT NULL AND lane.state = 'running' AND lane.number = coalesce(running.only_lane, lane.number)
      THEN greatest(0, extract(epoch FROM now() - greatest(lane.moved_at, lane.held_until)))::float8
  END AS idle
FROM watched AS run
LEFT JOIN backfill.lane ON lane.run_id = run.id
LEFT JOIN (
{sql/running.sql}
) AS running ON running.run_id = run.id
ORDER BY run.started_at, run.id, lane.number
