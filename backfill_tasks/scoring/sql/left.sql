-- Whether a job of ours has not ended. Uses the index on status and runAt; reads the waiting and running jobs of all
-- kinds until it finds one of ours, but no finished ones.
--
-- `left(…) = …` instead of starts_with(…), here and in the other files: the planner might read all of our jobs by their
-- keys, finished ones included.
SELECT
  EXISTS (
    SELECT FROM {host}."BackgroundJob"
    WHERE status = 'PENDING' AND type = 'LEAD_SCORING_POST_PROCESS' AND left("dedupeKey", length(:key_prefix)) = :key_prefix
  )
  OR EXISTS (
    SELECT FROM {host}."BackgroundJob"
    WHERE status = 'RUNNING' AND type = 'LEAD_SCORING_POST_PROCESS' AND left("dedupeKey", length(:key_prefix)) = :key_prefix
  )
  -- A run that goes on will enqueue more.
  OR EXISTS (SELECT FROM backfill.run WHERE state = 'running')
