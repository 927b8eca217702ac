-- What scoring here has to do with a job: the session that is running, the provider's batch that has the job, and the
-- session in whose time the lead got its score. Reads few rows: sessions, and one request by the index on open ones.
SELECT
  (SELECT id FROM backfill.scoring WHERE state = 'running') AS session,
  request.batch_id AS submission,
  batch.state AS submission_state,
  (
    SELECT id
    FROM backfill.scoring
    WHERE CAST(:scored_at AS timestamptz) BETWEEN started_at AND coalesce(finished_at, now())
    ORDER BY started_at DESC
    LIMIT 1
  ) AS scored_in
FROM (VALUES (1)) AS one (row)
LEFT JOIN backfill.batch_request AS request ON request.job = :job AND request.is_open
LEFT JOIN backfill.batch ON batch.id = request.batch_id
