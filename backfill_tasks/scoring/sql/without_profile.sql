-- The workspaces of waiting jobs of ours that have no ideal customer profile. Uses the index on status and runAt, and reads
-- the first :pool waiting jobs of ours.
WITH waiting AS MATERIALIZED (
  SELECT "clientId" AS client
  FROM {host}."BackgroundJob"
  WHERE status = 'PENDING' AND type = 'LEAD_SCORING_POST_PROCESS' AND left("dedupeKey", length(:key_prefix)) = :key_prefix
  ORDER BY "runAt"
  LIMIT :pool
)
SELECT each.client
FROM (SELECT DISTINCT client FROM waiting) AS each
LEFT JOIN {host}."WorkspaceSettings" AS workspace ON workspace."clientId" = each.client
WHERE coalesce(trim(workspace."idealCustomerProfile"), '') = ''
ORDER BY each.client
