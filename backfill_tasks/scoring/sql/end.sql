-- End a slot's batch: add its counts, and note why and until when the slot waits, if it does. A reseeded slot keeps its
-- new chain's times; the counts are of jobs that have ended, so they are added all the same.
UPDATE backfill.scoring_slot
SET
  scored = scored + :scored,
  unchanged = unchanged + :unchanged,
  retried = retried + :retried,
  failed = failed + :failed,
  given_back = given_back + :given_back,
  lost = lost + :lost,
  beat_at = CASE WHEN generation = :generation THEN now() ELSE beat_at END,
  held_until = CASE WHEN generation = :generation THEN now() + :delay * interval '1 second' ELSE held_until END,
  reason = CASE WHEN generation = :generation THEN :reason ELSE reason END,
  failing = CASE WHEN generation = :generation THEN :failing ELSE failing END
WHERE session_id = :session AND number = :slot
