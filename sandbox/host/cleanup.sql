-- Drop what the scripts created in addition to the rows: the caller's transaction or session may continue.

DROP TABLE sample_plan, sample_case, sample_client;
DROP FUNCTION
  pg_temp.id(TEXT, BIGINT),
  pg_temp.digest(TEXT, BIGINT),
  pg_temp.pick(TEXT[], DOUBLE PRECISION),
  pg_temp.draw(BIGINT, TEXT);
