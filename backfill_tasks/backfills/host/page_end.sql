-- Where the page ends: at its last lead if it is full, else after the last row that it looked at. Follows a WITH of
-- `picked`, the leads of the page.
,
page_end AS (
  SELECT
    CASE
      WHEN (SELECT count(*) FROM picked) = :limit THEN (SELECT max(id) FROM picked)
      ELSE coalesce(
        (
          SELECT id
          FROM {host}."Lead"
          WHERE (CAST(:lower AS text) IS NULL OR id > :lower) AND id <= :upper
          ORDER BY id
          LIMIT 1 OFFSET :rows - 1
        ),
        :upper
      )
    END AS cursor
)
