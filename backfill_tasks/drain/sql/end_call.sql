-- End a call, once. It counts if its worker still holds the lease that it was made under; then :result is not null.
UPDATE backfill.drain_call
SET ended_at = clock_timestamp(), result = :result, shown = :shown, processed = :processed, spoiled = :spoiled
WHERE id = :id AND ended_at IS NULL
RETURNING id
