-- Whether another batch of the session that is still being worked on holds a reservation, here or at a provider: its
-- settlement may leave room.
SELECT EXISTS (
  SELECT FROM backfill.batch
  WHERE session_id = :session AND state IN ('submitting', 'submitted', 'ended')
)
OR EXISTS (
  SELECT
  FROM backfill.spend
  JOIN backfill.scoring_slot AS slot ON slot.session_id = spend.session_id AND slot.number = spend.slot
  WHERE
    spend.session_id = :session
    AND spend.settled_at IS NULL
    AND spend.generation = slot.generation
    AND slot.beat_at > now() - :stale_seconds * interval '1 second'
)
