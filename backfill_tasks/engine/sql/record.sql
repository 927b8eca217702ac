-- A page's last statement before the commit: its row, and the lane moved past it.
WITH recorded AS (
  INSERT INTO backfill.page (run_id, lane, number, generation, lower, cursor, counts, enqueued)
  VALUES (:run, :lane, :page, :generation, :lower, :cursor, CAST(:counts AS jsonb), :enqueued)
)
UPDATE backfill.lane
SET
  page = :page,
  cursor = :cursor,
  counts = CAST(:lane_counts AS jsonb),
  state = CASE WHEN :cursor = upper_bound THEN 'done' ELSE state END,
  reason = NULL,
  moved_at = clock_timestamp(),
  held_until = clock_timestamp() + :delay_ms * interval '1 millisecond',
  size = :size,
  page_seconds = :seconds,
  waits = 0
WHERE run_id = :run AND number = :lane
