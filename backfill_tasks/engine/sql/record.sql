-- Record a committed page: insert its row and move the lane past it.
WITH recorded AS (
  INSERT INTO backfill.page (run_id, lane, number, generation, lower, cursor, counts, enqueued)
  VALUES (:run, :lane, :page, :generation, :lower, :cursor, CAST(:counts AS jsonb), CAST(:enqueued AS text[]))
)
UPDATE backfill.lane
SET
  page = :page,
  cursor = :cursor,
  counts = CAST(:lane_counts AS jsonb),
  reason = NULL,
  moved_at = clock_timestamp(),
  held_until = clock_timestamp() + :delay_ms * interval '1 millisecond',
  size = :size,
  page_seconds = :seconds,
  waits = 0
WHERE run_id = :run AND number = :lane
