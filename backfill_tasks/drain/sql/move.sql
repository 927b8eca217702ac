-- Set the state and why. `since` is kept while both stay the same.
UPDATE backfill.drain
SET
  since = CASE WHEN (state, kind) = (:state, :kind) THEN since ELSE now() END,
  judged_since = CASE WHEN :judges_anew THEN now() ELSE judged_since END,
  next_call_at = greatest(next_call_at, now() + :wait_seconds * interval '1 second'),
  state = :state,
  kind = :kind,
  reason = :reason
