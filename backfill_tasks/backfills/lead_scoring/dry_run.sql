-- What a page would do, counted and not done. Follows selection.sql; page.sql is its twin.
,
-- Every lead that the page passes, whether it takes part or not.
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
  (SELECT count(*) FROM picked) AS read,
  (SELECT count(*) FROM target WHERE class = 'inserted') AS inserted,
  (SELECT count(*) FROM target WHERE class = 'requeued') AS requeued,
  (SELECT count(*) FROM target WHERE class = 'refreshed') AS refreshed,
  (SELECT count(*) FROM target WHERE class = 'in_flight') AS in_flight,
  (SELECT count(*) FROM picked WHERE disqualified) AS disqualified,
  (SELECT already_scored FROM passed) AS already_scored,
  (SELECT unscored FROM passed) - (SELECT count(*) FROM picked) AS no_inbound
