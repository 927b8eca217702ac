-- The leads to divide equally among lanes: see host/lanes.sql.
SELECT id
FROM {host}."Lead"
WHERE
  (CAST(:after AS text) IS NULL OR id > :after)
  AND (:rescore_all OR "overallScore" IS NULL)
  AND (CAST(:client_ids AS text[]) IS NULL OR "clientId" = ANY (:client_ids))
