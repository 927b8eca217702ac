-- Take the lease if it is free and the drain is active. No row: it isn't.
UPDATE backfill.drain
SET
  generation = generation + 1,
  holder = :who,
  lease_until = now() + :seconds * interval '1 second',
  looked_at = now()
WHERE state <> 'stopped' AND lease_until <= now()
RETURNING generation
