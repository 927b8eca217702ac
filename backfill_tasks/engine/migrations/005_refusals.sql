-- Refusals: why the database refused an item, in parts that repeat no value of its row. Null: the database named none.
ALTER TABLE backfill.quarantine
  ADD COLUMN sqlstate        text,
  ADD COLUMN constraint_name text,
  ADD COLUMN table_name      text,
  ADD COLUMN column_name     text;

-- Existing errors may repeat values, such as an e-mail address. Only the server's own words about a constraint or about
-- damage are kept.
UPDATE backfill.quarantine SET sqlstate = substring(error FROM '\(([0-9A-Z]{5})\)$');
UPDATE backfill.quarantine
SET error = 'its reason was removed, as it may repeat values of the row; `backfill retry` finds it again'
  || coalesce(' (' || sqlstate || ')', '')
WHERE error !~ ' violates (not-null constraint|(unique|check|foreign key|exclusion) constraint "[^"]*") \(23[0-9P]{3}\)$'
  AND sqlstate IS DISTINCT FROM 'XX001' AND sqlstate IS DISTINCT FROM 'XX002';
