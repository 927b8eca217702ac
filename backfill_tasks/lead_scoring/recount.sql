-- What one page left behind: rows that carry the page's own time. Jobs that existed before keep their createdAt, and
-- both they and scores go on to be changed by the host, so only these two classes can be counted for good.
SELECT
  (
    SELECT count(*)
    FROM {host}."Lead" AS lead
    JOIN {host}."BackgroundJob" AS job ON job."dedupeKey" = :key_prefix || lead.id
    WHERE
      lead.id > coalesce(:lower, '') AND lead.id <= :cursor
      AND job."createdAt" = CAST(:at AS timestamp(3))
  ) AS inserted,
  (
    SELECT count(*)
    FROM {host}."Lead" AS lead
    WHERE
      lead.id > coalesce(:lower, '') AND lead.id <= :cursor
      AND lead."scoredAt" = CAST(:at AS timestamp(3))
      AND starts_with(lead."scoreReasoning", :disqualified_reasoning)
  ) AS disqualified
