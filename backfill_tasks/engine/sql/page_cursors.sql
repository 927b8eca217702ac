-- The cursors of some pages, each read by the primary key. No array of a page is read.
SELECT wanted.run_id, wanted.lane, page.number, page.cursor
FROM unnest(CAST(:runs AS text[]), CAST(:lanes AS integer[]), CAST(:pages AS integer[])) AS wanted (run_id, lane, number)
CROSS JOIN LATERAL (
  SELECT number, cursor
  FROM backfill.page
  WHERE run_id = wanted.run_id AND lane = wanted.lane AND number = wanted.number
  LIMIT 1
) AS page
