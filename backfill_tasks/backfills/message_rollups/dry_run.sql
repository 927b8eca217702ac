-- Count what a page would do, without doing it; page.sql is its counterpart.
WITH picked AS MATERIALIZED (
{message_rollups/selection.sql}
),
-- A full page ends at its last lead.
page_end AS (
  SELECT CASE WHEN count(*) = :limit THEN max(id) ELSE ({host/page_end.sql}) END AS cursor FROM picked
),
passed AS (
  SELECT count(*) AS leads, count(message.id) AS written
  FROM {host}."Lead" AS lead
  LEFT JOIN LATERAL (SELECT id FROM {host}."Message" WHERE "leadId" = lead.id LIMIT 1) AS message ON true
  WHERE
    (CAST(:lower AS text) IS NULL OR lead.id > :lower) AND lead.id <= (SELECT cursor FROM page_end)
    AND (CAST(:client_ids AS text[]) IS NULL OR "clientId" = ANY (:client_ids))
)
SELECT cursor, read, read AS updated, written - read AS up_to_date, leads - written AS no_message
FROM page_end, passed, (SELECT count(*) AS read FROM picked) AS picked
