-- A sample of the leads that have a score: of each workspace and each score, the :each that were updated last. Uses the
-- index on clientId, overallScore and updatedAt.
SELECT lead.id AS lead, client.id AS client, lead."overallScore" AS overall
FROM {host}."Client" AS client
CROSS JOIN generate_series(CAST(:lowest AS integer), CAST(:highest AS integer)) AS score
CROSS JOIN LATERAL (
  SELECT id, "overallScore"
  FROM {host}."Lead"
  WHERE "clientId" = client.id AND "overallScore" = score
  ORDER BY "updatedAt" DESC
  LIMIT :each
) AS lead
ORDER BY client.id, lead.id
