-- What the scorer needs for all claimed jobs: the workspace, the lead, and the lead's oldest 60 messages, of which the
-- last :characters characters in all. Without its lead, or with one of another workspace, a job has no row. Reads by
-- primary key, and the messages by the index on leadId. settled: a page of the backfill has disqualified the lead, with the
-- tag that it has, so there is nothing left to write.
SELECT
  claimed.job,
  lead."sentimentTag" AS tag,
  coalesce(lead."sentimentTag" = ANY (:disqualifying), false) AS disqualified,
  lead."overallScore" = :lowest AND lead."scoreReasoning" = :disqualified_reasoning || lead."sentimentTag" AS settled,
  EXISTS (
    SELECT FROM {host}."Message" AS message WHERE message."leadId" = lead.id AND message.direction = 'inbound'
  ) AS has_inbound,
  claimed.client,
  workspace."companyName" AS workspace_name,
  workspace."idealCustomerProfile" AS profile,
  workspace."serviceDescription" AS service,
  workspace."qualificationQuestions" AS questions,
  lead."companyName" AS company_name,
  lead.industry,
  lead."employeeHeadcount" AS headcount,
  conversation.inbound,
  conversation.texts
FROM unnest(CAST(:jobs AS text[]), CAST(:leads AS text[]), CAST(:clients AS text[])) AS claimed (job, lead, client)
JOIN {host}."Lead" AS lead ON lead.id = claimed.lead AND lead."clientId" = claimed.client
LEFT JOIN {host}."WorkspaceSettings" AS workspace ON workspace."clientId" = claimed.client
CROSS JOIN LATERAL (
  SELECT
    array_agg(inbound ORDER BY sent_at, id) AS inbound,
    -- Of an older message, only what is left of the characters after the newer ones.
    array_agg(right(body, greatest(0, :characters - newer)) ORDER BY sent_at, id) AS texts
  FROM (
    SELECT
      id, sent_at, inbound, body,
      (
        sum(length(body)) OVER (ORDER BY sent_at DESC, id DESC) - length(body)
      )::integer AS newer
    FROM (
      SELECT
        message.id,
        message."sentAt" AS sent_at,
        message.direction = 'inbound' AS inbound,
        right(message.body, :characters) AS body
      FROM {host}."Message" AS message
      WHERE message."leadId" = lead.id
      ORDER BY message."sentAt", message.id
      LIMIT :messages
    ) AS oldest
  ) AS measured
) AS conversation
