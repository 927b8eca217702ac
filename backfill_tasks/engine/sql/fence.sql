-- A page's first statement: hold its lane until the page commits, and read what decides whether it may be done at all.
-- A second delivery of the page waits here, and then sees that the lane has moved.
WITH limits AS MATERIALIZED (
  -- Local to the transaction. A client that stands still with the lane in its hands is ended by the server as well.
  SELECT
    set_config('lock_timeout', :lock_timeout, true),
    set_config('statement_timeout', :statement_timeout, true),
    set_config('idle_in_transaction_session_timeout', :statement_timeout, true),
    -- No page waits for the disk, nor makes the host's commits wait behind its own. A server that crashes may forget the
    -- last pages, but whole, their jobs and their rows in the ledger together: the lane stands then, and the watchdog
    -- seeds it again from where the ledger has it. A run's end is committed to the disk, and all that went before it.
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
