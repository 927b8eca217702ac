-- Postpone a lane's next page: the lane records until when and why, and the ledger how long each page waited for each
-- kind of reason. A no-op if a newer chain has the lane, the page is committed, or the lane has ended.
--
-- :waits is how often the page has been postponed, this time included; null leaves the count as it is. :smaller halves
-- the page size for the next attempt: the failure may be due to others' load.
WITH held AS (
  UPDATE backfill.lane
  SET
    held_until = clock_timestamp() + :seconds * interval '1 second',
    reason = :reason,
    waits = coalesce(CAST(:waits AS int), waits),
    size = CASE
      WHEN :smaller THEN greatest(1, least(size, (run.parameters ->> 'limit')::int) / 2)
      ELSE size
    END
  FROM backfill.run
  WHERE
    run.id = run_id AND run_id = :run AND number = :lane
    AND generation = :generation AND page = :page - 1 AND lane.state = 'running'
  RETURNING held_until
)
INSERT INTO backfill.hold (run_id, lane, page, generation, kind, reason, until, seconds)
SELECT :run, :lane, :page, :generation, :kind, :reason, held_until, :seconds FROM held
ON CONFLICT (run_id, lane, page, generation, kind) DO UPDATE
SET reason = EXCLUDED.reason, until = EXCLUDED.until, seconds = hold.seconds + EXCLUDED.seconds
