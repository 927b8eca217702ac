-- What a backfill of all unscored leads would find, read from the tables, not from the plan.

WITH
  classified AS (
    SELECT
      lead."overallScore" IS NOT NULL AS scored,
      answering."leadId" IS NOT NULL AS answers,
      coalesce(
        lead."sentimentTag" IN (
          'Blacklist', 'Opt Out', 'Opted Out', 'Unsubscribe', 'Unsubscribed', 'Bounced', 'Bounce'
        ),
        false
      ) AS disqualified,
      job."status" AS status
    FROM "Lead" AS lead
    LEFT JOIN (
      SELECT DISTINCT "leadId" FROM "Message" WHERE "direction" = 'inbound'
    ) AS answering ON answering."leadId" = lead."id"
    LEFT JOIN "BackgroundJob" AS job ON job."dedupeKey" = 'lead_scoring_backfill:' || lead."id"
  ),
  eligible AS (
    SELECT disqualified, status FROM classified WHERE answers AND NOT scored
  )
SELECT
  (SELECT count(*) FROM "Client") AS clients,
  (SELECT count(*) FROM "Lead") AS leads,
  (SELECT count(*) FROM "Message") AS messages,
  (SELECT count(*) FROM "BackgroundJob") AS jobs,
  (SELECT count(*) FROM classified WHERE scored) AS scored,
  (SELECT count(*) FROM classified WHERE NOT answers AND NOT scored) AS no_inbound,
  count(*) AS eligible,
  count(*) FILTER (WHERE disqualified) AS disqualified,
  count(*) FILTER (WHERE NOT disqualified AND status IS NULL) AS inserted,
  count(*) FILTER (WHERE NOT disqualified AND status IN ('SUCCEEDED', 'FAILED')) AS requeued,
  count(*) FILTER (WHERE NOT disqualified AND status = 'PENDING') AS refreshed,
  count(*) FILTER (WHERE NOT disqualified AND status = 'RUNNING') AS in_flight
FROM eligible;
