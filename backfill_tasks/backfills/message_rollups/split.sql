-- The leads to divide equally among lanes: all of them, since only their messages tell which ones lag. See
-- host/lanes.sql.
SELECT id
FROM {host}."Lead"
WHERE
  (CAST(:after AS text) IS NULL OR id > :after)
  AND (CAST(:client_ids AS text[]) IS NULL OR "clientId" = ANY (:client_ids))
