-- Count what a page would do, without doing it; page.sql is its counterpart.
WITH picked AS MATERIALIZED (
{lead_scoring/selection.sql}
),
-- A full page ends at its last lead.
page_end AS (
  SELECT CASE WHEN count(DISTINCT id) = :limit THEN max(id) ELSE ({host/page_end.sql}) END AS cursor FROM picked
),
-- All leads that the page passes, whether they take part or not.
passed AS (
  SELECT
    count(*) FILTER (WHERE NOT :rescore_all AND lead."overallScore" IS NOT NULL) AS already_scored,
    count(*) FILTER (WHERE :rescore_all OR lead."overallScore" IS NULL) AS unscored
  FROM {host}."Lead" AS lead
  WHERE
    (CAST(:lower AS text) IS NULL OR lead.id > :lower)
    AND lead.id <= (SELECT cursor FROM page_end)
    AND (CAST(:client_ids AS text[]) IS NULL OR lead."clientId" = ANY (:client_ids))
)
SELECT
  (SELECT cursor FROM page_end) AS cursor,
  (SELECT count(DISTINCT id) FROM picked) AS read,
  (SELECT count(*) FROM picked WHERE class = 'inserted') AS inserted,
  (SELECT count(*) FROM picked WHERE class = 'requeued') AS requeued,
  (SELECT count(*) FROM picked WHERE class = 'refreshed') AS refreshed,
  (SELECT count(*) FROM picked WHERE class = 'in_flight') AS in_flight,
  (SELECT count(*) FROM picked WHERE class = 'disqualified') AS disqualified,
  (SELECT already_scored FROM passed) AS already_scored,
  (SELECT unscored FROM passed) - (SELECT count(DISTINCT id) FROM picked) AS no_inbound
