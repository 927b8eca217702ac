-- Begin a slot's next batch: a compare-and-set on the slot's generation and batch, so that a duplicate delivery and a
-- message of an older chain change nothing. Returns the session's parameters.
UPDATE backfill.scoring_slot AS slot
SET batch = :batch, beat_at = now(), held_until = now(), reason = NULL
FROM backfill.scoring AS session
WHERE
  slot.session_id = :session
  AND slot.number = :slot
  AND slot.generation = :generation
  AND slot.batch = :batch - 1
  AND session.id = slot.session_id
  AND (
    session.state = 'running'
    -- A slot of an ended session goes on until the provider has nothing more of it.
    OR EXISTS (
      SELECT FROM backfill.batch AS submission
      WHERE
        submission.session_id = slot.session_id
        AND submission.slot = slot.number
        AND submission.state IN ('submitting', 'submitted', 'ended')
    )
  )
RETURNING session.scorer, session.state, session.parameters, session.max_spend, slot.failing
