-- Move lanes to a state from the states that lead there, if their run's state allows it. The caller has locked their
-- rows before this statement, so its snapshot includes what was committed while the caller waited for the locks.
UPDATE backfill.lane
SET
  state = :new,
  reason = :reason,
  generation = CASE WHEN :reseeds THEN generation + 1 ELSE generation END,
  waits = CASE WHEN :reseeds THEN 0 ELSE waits END,
  held_until = CASE WHEN :reseeds THEN now() ELSE held_until END,
  moved_at = CASE WHEN :moves THEN now() ELSE moved_at END
WHERE
  run_id = :run
  AND number = ANY (:lanes)
  AND state = ANY (:from)
  AND EXISTS (SELECT FROM backfill.run WHERE id = :run AND run.state = ANY (:run_states))
RETURNING *
