-- Release a quarantined item that succeeded: delete it from quarantine and correct the counts of its page, lane and
-- run.
WITH released AS (
  DELETE FROM backfill.quarantine WHERE run_id = :run AND item = :item
),
counted AS (
  UPDATE backfill.page
  SET
    counts = CAST(:counts AS jsonb),
    retried = retried || now(),
    released = released || CAST(:enqueued AS text[]),
    released_at = released_at || array_fill(clock_timestamp(), ARRAY[cardinality(CAST(:enqueued AS text[]))])
  WHERE run_id = :run AND lane = :lane AND number = :page
),
numbered AS (
  UPDATE backfill.run
  SET ordinal = ordinal + :numbered, due_at = coalesce(CAST(:due_at AS timestamptz), due_at)
  WHERE id = :run AND :numbered > 0
)
UPDATE backfill.lane SET counts = CAST(:lane_counts AS jsonb) WHERE run_id = :run AND number = :lane
