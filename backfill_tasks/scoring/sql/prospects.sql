-- What the doctor asks about scoring here: whether a run has reserved jobs, whether a session runs, and the scorer of the
-- running session or else the newest one. Reads the ledger only.
SELECT
  EXISTS (SELECT FROM backfill.run WHERE parameters @> '{"score_here": true}') AS reserves,
  EXISTS (SELECT FROM backfill.scoring WHERE state = 'running') AS is_running,
  (
    SELECT scorer FROM backfill.scoring ORDER BY state <> 'running', started_at DESC LIMIT 1
  ) AS scorer
