-- What the doctor asks about scoring here: whether a run has reserved jobs, whether a session runs, and which workspaces
-- of waiting jobs have no ideal customer profile. Uses the index on status and runAt, and reads the first :pool waiting
-- jobs of ours.
WITH waiting AS MATERIALIZED (
  SELECT "clientId" AS client
  FROM {host}."BackgroundJob"
  WHERE status = 'PENDING' AND type = 'LEAD_SCORING_POST_PROCESS' AND left("dedupeKey", length(:key_prefix)) = :key_prefix
  ORDER BY "runAt"
  LIMIT :pool
)
SELECT
  EXISTS (SELECT FROM backfill.run WHERE parameters @> '{"score_here": true}') AS reserves,
  EXISTS (SELECT FROM backfill.scoring WHERE state = 'running') AS is_running,
  (
    SELECT scorer FROM backfill.scoring ORDER BY state <> 'running', started_at DESC LIMIT 1
  ) AS scorer,
  (
    SELECT coalesce(array_agg(each.client ORDER BY each.client), ARRAY[]::text[])
    FROM (SELECT DISTINCT client FROM waiting) AS each
    LEFT JOIN {host}."WorkspaceSettings" AS workspace ON workspace."clientId" = each.client
    WHERE coalesce(trim(workspace."idealCustomerProfile"), '') = ''
  ) AS without_profile
