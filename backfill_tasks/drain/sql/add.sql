-- Add a call to the totals.
INSERT INTO backfill.drain_total AS total (
  result, calls, processed, succeeded, failed, retried, skipped, released
)
VALUES (:result, 1, :processed, :succeeded, :failed, :retried, :skipped, :released)
ON CONFLICT (result) DO UPDATE
SET
  calls = total.calls + 1,
  processed = total.processed + excluded.processed,
  succeeded = total.succeeded + excluded.succeeded,
  failed = total.failed + excluded.failed,
  retried = total.retried + excluded.retried,
  skipped = total.skipped + excluded.skipped,
  released = total.released + excluded.released
