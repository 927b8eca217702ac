-- The leads that lanes are to hold equally many of: all, for it takes their messages to tell which lag. See host/lanes.sql.
SELECT id
FROM {host}."Lead"
WHERE
  (CAST(:after AS text) IS NULL OR id > :after)
  AND (CAST(:client_ids AS text[]) IS NULL OR "clientId" = ANY (:client_ids))
