-- Finish the jobs claimed by the previous call: all succeed, and scoring jobs score their leads.
WITH done AS (
  UPDATE "BackgroundJob"
  SET
    status = 'SUCCEEDED', "finishedAt" = now() AT TIME ZONE 'UTC', "lockedAt" = NULL, "lockedBy" = NULL,
    "lastError" = NULL, "updatedAt" = now() AT TIME ZONE 'UTC'
  WHERE status = 'RUNNING' AND "lockedBy" = 'chaos-runner'
  RETURNING "leadId", "clientId", type
)
UPDATE "Lead" AS lead
SET
  "fitScore" = 2, "intentScore" = 2, "overallScore" = 2, "scoreReasoning" = 'Fits.',
  "scoredAt" = now() AT TIME ZONE 'UTC', "updatedAt" = now() AT TIME ZONE 'UTC'
FROM done
WHERE done.type = 'LEAD_SCORING_POST_PROCESS' AND lead.id = done."leadId" AND lead."clientId" = done."clientId"
