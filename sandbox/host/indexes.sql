-- The foreign keys, primary keys and indexes of the three large tables, each with the statements that drop and recreate
-- it, in the order in which they can be dropped. A million rows load much faster without them.

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
