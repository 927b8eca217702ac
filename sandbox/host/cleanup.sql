-- What the scripts made beside the rows: a caller's transaction, or its session, may go on.

DROP TABLE sample_plan, sample_case, sample_client;
DROP FUNCTION
  pg_temp.id(TEXT, BIGINT),
  pg_temp.digest(TEXT, BIGINT),
  pg_temp.pick(TEXT[], DOUBLE PRECISION),
  pg_temp.draw(BIGINT, TEXT);
