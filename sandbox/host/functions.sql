-- The random functions of the other scripts. Each is one expression, which the planner inlines, and depends only on its
-- arguments and the seed: the same arguments always give the same row.

-- A number from 0 (inclusive) to 1 (exclusive). Draws on different subjects are independent.
CREATE FUNCTION pg_temp.draw(n BIGINT, subject TEXT) RETURNS DOUBLE PRECISION LANGUAGE sql IMMUTABLE AS $$
  SELECT
    (hashint8extended(n, hashtextextended(subject, %(seed)s)) & 4503599627370495)
    / 4503599627370496.0::DOUBLE PRECISION
$$;

-- One element of a pool; an element that is listed twice is drawn twice as often.
CREATE FUNCTION pg_temp.pick(pool TEXT[], draw DOUBLE PRECISION) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
  SELECT pool[1 + floor(draw * cardinality(pool))::INTEGER]
$$;

-- 32 hexadecimal digits, unique to the n-th row of a table.
CREATE FUNCTION pg_temp.digest(row_of TEXT, n BIGINT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
  SELECT md5(row_of || ':' || n || ':' || %(seed)s)
$$;

-- The id of the n-th row of a table. UUIDs are in no order; cuids are in the order of the rows, as if by time; mixed
-- ids are both, in lower and upper case, with prefixes that sort differently in every collation.
CREATE FUNCTION pg_temp.id(row_of TEXT, n BIGINT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE %(ids)s
    WHEN 'uuid' THEN pg_temp.digest(row_of, n)::UUID::TEXT
    WHEN 'cuid' THEN 'cm' || lpad(to_hex(n), 8, '0') || left(pg_temp.digest(row_of, n), 15)
    ELSE pg_temp.pick(
        ARRAY['', '', '', 'lead_', 'LEAD_', 'Lead-', 'lead', '_', '~', 'e', 'é', 'É', 'ß', 'Ω', 'ñ', 'ж', '线索:'],
        pg_temp.draw(n, 'prefix of ' || row_of)
      ) || CASE mod(n, 3)
        WHEN 0 THEN pg_temp.digest(row_of, n)::UUID::TEXT
        WHEN 1 THEN upper(pg_temp.digest(row_of, n)::UUID::TEXT)
        ELSE 'cm' || lpad(to_hex(n), 8, '0') || left(pg_temp.digest(row_of, n), 15)
      END
  END
$$;
