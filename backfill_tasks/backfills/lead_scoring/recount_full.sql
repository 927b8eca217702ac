-- Like recount.sql, for many pages at once and without any index: each table is read once, from end to end. Two pages
-- may have the same time, so a row counts for the page whose range of ids contains it.
WITH written AS MATERIALIZED (
  SELECT DISTINCT number, lower, cursor, at
  FROM unnest(
    CAST(:numbers AS int[]), CAST(:lowers AS text[]), CAST(:cursors AS text[]), CAST(:times AS timestamp(3)[])
  ) AS written (number, lower, cursor, at)
)
SELECT number, 'inserted' AS class_, count(*) AS rows
FROM written
JOIN {host}."BackgroundJob" AS job ON job."createdAt" = written.at
JOIN {host}."Lead" AS lead ON job."dedupeKey" = :key_prefix || lead.id
WHERE (lower IS NULL OR lead.id > lower) AND lead.id <= cursor
GROUP BY number
UNION ALL
SELECT number, 'disqualified', count(*)
FROM written
JOIN {host}."Lead" AS lead ON lead."scoredAt" = written.at
WHERE
  starts_with(lead."scoreReasoning", :disqualified_reasoning)
  AND (lower IS NULL OR lead.id > lower) AND lead.id <= cursor
GROUP BY number
