-- A page failed and is tried again, unless somebody else has done it: its lane waits, and the ledger keeps for how long
-- and why. The next try is half as large: what made it fail may be others' load.
WITH held AS (
  UPDATE backfill.lane
  SET
    held_until = now() + :seconds * interval '1 second',
    reason = :reason,
    size = greatest(1, least(size, (run.parameters ->> 'limit')::int) / 2)
  FROM backfill.run
  WHERE
    run.id = run_id AND run_id = :run AND number = :lane
    AND generation = :generation AND page = :page - 1 AND lane.state = 'running'
  RETURNING held_until
)
INSERT INTO backfill.hold (run_id, lane, page, generation, kind, reason, until, seconds)
SELECT :run, :lane, :page, :generation, 'retry', :reason, held_until, :seconds FROM held
ON CONFLICT (run_id, lane, page, generation, kind) DO UPDATE
SET reason = EXCLUDED.reason, until = EXCLUDED.until, seconds = hold.seconds + EXCLUDED.seconds
