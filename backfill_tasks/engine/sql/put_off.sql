-- The page of a lane that is held gets no leave: the lane waits, and the ledger keeps for how long and why.
WITH noted AS (
  INSERT INTO backfill.hold (run_id, lane, page, generation, kind, reason, until, seconds)
  VALUES (
    :run, :lane, :page, :generation, :kind, :reason, clock_timestamp() + :seconds * interval '1 second', :seconds
  )
  ON CONFLICT (run_id, lane, page, generation, kind) DO UPDATE
  SET reason = EXCLUDED.reason, until = EXCLUDED.until, seconds = hold.seconds + EXCLUDED.seconds
)
UPDATE backfill.lane
SET held_until = clock_timestamp() + :seconds * interval '1 second', reason = :reason, waits = :waits
WHERE run_id = :run AND number = :lane
