-- The slots of the running session whose chain has shown no life for a while, although nothing postpones it.
SELECT slot.session_id, slot.number, slot.generation, slot.batch
FROM backfill.scoring AS session
JOIN backfill.scoring_slot AS slot ON slot.session_id = session.id
WHERE
  session.state = 'running'
  AND greatest(slot.beat_at, slot.held_until) < now() - :stale_seconds * interval '1 second'
ORDER BY slot.session_id, slot.number
