-- A random sample of the leads that a scorer would be asked for: :most at most, in random order. It reads :percent of
-- Lead's blocks, each with the same chance, and nothing of the others; then it looks for messages, by the index on
-- leadId, for :candidates of the chosen leads in them.
WITH candidate AS MATERIALIZED (
  SELECT lead.id, lead."clientId" AS client, random() AS place
  FROM {host}."Lead" AS lead TABLESAMPLE SYSTEM (CAST(:percent AS real))
  WHERE
    (:rescore_all OR lead."overallScore" IS NULL)
    AND (CAST(:client_ids AS text[]) IS NULL OR lead."clientId" = ANY (:client_ids))
    AND NOT coalesce(lead."sentimentTag" = ANY (:disqualifying), false)
    AND (CAST(:after AS text) IS NULL OR lead.id > :after)
  ORDER BY place
  LIMIT :candidates
)
SELECT id AS lead, client
FROM candidate
WHERE EXISTS (
  SELECT FROM {host}."Message" AS message WHERE message."leadId" = candidate.id AND message.direction = 'inbound'
)
ORDER BY place
LIMIT :most
