-- The foreign keys, primary keys and indexes of the three large tables, each as the statement that takes it away and
-- the one that puts it back, in the order in which they can be taken away. A million rows go in much faster without
-- them.

SELECT
  format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::REGCLASS, conname) AS take_away,
  format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::REGCLASS, conname, pg_get_constraintdef(oid)) AS put_back,
  CASE contype WHEN 'f' THEN 1 ELSE 2 END AS step
FROM pg_constraint
WHERE
  contype IN ('f', 'p', 'u')
  AND (
    conrelid IN ('"Lead"'::REGCLASS, '"Message"'::REGCLASS, '"BackgroundJob"'::REGCLASS)
    OR confrelid IN ('"Lead"'::REGCLASS, '"Message"'::REGCLASS, '"BackgroundJob"'::REGCLASS)
  )
UNION ALL
SELECT format('DROP INDEX %s', indexrelid::REGCLASS), pg_get_indexdef(indexrelid), 3
FROM pg_index
WHERE
  indrelid IN ('"Lead"'::REGCLASS, '"Message"'::REGCLASS, '"BackgroundJob"'::REGCLASS)
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u'))
ORDER BY step, take_away;
