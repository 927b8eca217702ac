-- What the demo compares with at its end: every lead as it is before the run. A lead with an unfinished job of an earlier
-- backfill may be scored by that job, whether the run selects it or not.
CREATE SCHEMA demo;
CREATE TABLE demo.lead AS
SELECT
  lead.id,
  lead."overallScore" IS NULL
    AND EXISTS (SELECT FROM "Message" WHERE "leadId" = lead.id AND direction = 'inbound') AS eligible,
  coalesce(
    lead."sentimentTag" IN ('Blacklist', 'Opt Out', 'Opted Out', 'Unsubscribe', 'Unsubscribed', 'Bounced', 'Bounce'), false
  ) AS disqualified,
  EXISTS (
    SELECT FROM "BackgroundJob"
    WHERE "dedupeKey" = 'lead_scoring_backfill:' || lead.id AND status IN ('PENDING', 'RUNNING')
  ) AS has_job,
  md5(lead::text) AS contents
FROM "Lead" AS lead;
