-- A page's first statement: lock its lane until the page commits, and read what decides whether the page may be done. A
-- duplicate delivery of the page waits here, and then sees that the lane has moved.
WITH limits AS MATERIALIZED (
  -- Local to the transaction. The server also ends a session that is idle while it holds the lane's lock.
  SELECT
    set_config('lock_timeout', :lock_timeout, true),
    set_config('statement_timeout', :statement_timeout, true),
    set_config('idle_in_transaction_session_timeout', :statement_timeout, true),
    -- A page neither waits for the disk nor makes the host's commits wait behind its own. A server that crashes may
    -- lose the last pages, but only as a whole, their jobs and their rows in the ledger together: the lane is then
    -- stalled, and the watchdog reseeds it from the ledger's position. The end of a run is flushed to disk, with
    -- everything before it.
    set_config('synchronous_commit', 'off', true),
    settings.*
  FROM (
{sql/page_settings.sql}
  ) AS settings
)
SELECT
  run.state AS run_state, run.parameters, run.single_batch, run.batch_lane, run.started_at,
  lane.number, lane.lower_bound, lane.upper_bound, lane.cursor, lane.page, lane.generation, lane.state, lane.reason,
  lane.counts, lane.moved_at, lane.size, lane.waits, lane.held_until
FROM limits
CROSS JOIN backfill.lane
JOIN backfill.run ON run.id = lane.run_id
WHERE lane.run_id = :run AND lane.number = :lane
FOR NO KEY UPDATE OF lane
