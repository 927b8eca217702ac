-- Replace a batch's reservation by what its requests really cost. A second settlement changes nothing.
WITH settled AS (
  UPDATE backfill.spend
  SET
    settled_at = now(), spent = :spent, unknown = :unknown, input_tokens = :input_tokens, output_tokens = :output_tokens,
    answered = :answered, estimated_tokens = :estimated
  WHERE holder = :holder AND settled_at IS NULL
  RETURNING session_id, reserved, spent
)
UPDATE backfill.scoring AS session
SET reserved = session.reserved - settled.reserved, spent = session.spent + settled.spent
FROM settled
WHERE session.id = settled.session_id
