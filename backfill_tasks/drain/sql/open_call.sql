-- Note a call before it is made, and when the next one may start.
WITH paced AS (
  UPDATE backfill.drain SET next_call_at = now() + :every * interval '1 second'
)
INSERT INTO backfill.drain_call (generation) VALUES (:generation) RETURNING id
