-- The slots whose chain has shown no life for a while, although nothing postpones it: those of the running session, and
-- those of ended ones that still have requests at a provider.
SELECT slot.session_id, slot.number, slot.generation, slot.batch
FROM backfill.scoring AS session
JOIN backfill.scoring_slot AS slot ON slot.session_id = session.id
WHERE
  (
    session.state = 'running'
    OR EXISTS (
      SELECT FROM backfill.batch AS submission
      WHERE
        submission.session_id = slot.session_id
        AND submission.slot = slot.number
        AND submission.state IN ('submitting', 'submitted', 'ended')
    )
  )
  AND greatest(slot.beat_at, slot.held_until) < now() - :stale_seconds * interval '1 second'
ORDER BY slot.session_id, slot.number
