-- Where a page that isn't full ends: after the last row that it looked at.
SELECT coalesce(
  (
    SELECT id
    FROM {host}."Lead"
    WHERE (CAST(:lower AS text) IS NULL OR id > :lower) AND id <= :upper
    ORDER BY id
    LIMIT 1 OFFSET :rows - 1
  ),
  :upper
) AS cursor
