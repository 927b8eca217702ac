-- The runs that are worth watching, with their lanes, a row a lane: those that an operator may still resume, and the
-- newest. However many runs the ledger has, no more are read than these; of a run, its lanes only, by their key.
WITH shown AS MATERIALIZED (
  (SELECT * FROM backfill.run WHERE state = ANY (:unfinished) ORDER BY started_at DESC, id DESC LIMIT :most_unfinished)
  UNION
  (SELECT * FROM backfill.run ORDER BY started_at DESC, id DESC LIMIT :newest)
)
SELECT
  shown.id, shown.backfill, shown.state AS run_state, shown.started_at, shown.finished_at, shown.expected,
  now() AS seen_at,
  lane.number, lane.state, lane.page, lane.generation, lane.counts,
  lane.reason IS NOT NULL AND lane.held_until > now() AS held,
  -- How long the lane has not moved though nothing that the ledger knows of holds it back: see standing.sql.
  CASE
    WHEN
      shown.state = 'running'
      AND lane.state = 'running'
      AND (
        NOT shown.single_batch
        OR lane.number = (SELECT min(other.number) FROM backfill.lane AS other
                          WHERE other.run_id = shown.id AND other.state = 'running')
      )
      THEN greatest(0, extract(epoch FROM now() - greatest(lane.moved_at, lane.held_until)))::float8
  END AS idle
FROM shown
LEFT JOIN backfill.lane ON lane.run_id = shown.id
ORDER BY shown.started_at, shown.id, lane.number
