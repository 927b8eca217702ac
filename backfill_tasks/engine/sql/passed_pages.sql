-- What some pages record of an item, one page of each run, read by the primary key: only their own arrays are read.
SELECT
  page.run_id, page.number, page.at, page.seconds, page.counts, page.retried,
  CAST(:item AS text) = ANY (page.enqueued) AS enqueued,
  page.released_at[array_position(page.released, CAST(:item AS text))] AS released_at
FROM unnest(CAST(:runs AS text[]), CAST(:lanes AS integer[]), CAST(:pages AS integer[])) AS wanted (run_id, lane, number)
CROSS JOIN LATERAL (
  SELECT *
  FROM backfill.page
  WHERE run_id = wanted.run_id AND lane = wanted.lane AND number = wanted.number
  LIMIT 1
) AS page
