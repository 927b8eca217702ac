-- Extend the lease and lock the row until the transaction ends. No row: somebody else has taken the lease, or the drain
-- has been stopped.
UPDATE backfill.drain
SET lease_until = now() + :seconds * interval '1 second', looked_at = now()
WHERE generation = :generation AND state <> 'stopped'
RETURNING generation
