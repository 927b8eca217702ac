-- The durations of pages committed since the last poll: for each lane the next :most by the page table's key, so only
-- new rows are read, however many pages there are.
SELECT known.run_id, known.lane, page.number, page.seconds
FROM unnest(CAST(:runs AS text[]), CAST(:lanes AS integer[]), CAST(:pages AS integer[])) AS known (run_id, lane, page)
CROSS JOIN LATERAL (
  SELECT number, seconds
  FROM backfill.page
  WHERE run_id = known.run_id AND lane = known.lane AND number > known.page
  ORDER BY number
  LIMIT :most
) AS page
