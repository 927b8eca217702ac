-- For each of these ids, whether an id isn't after it, in the order of Lead.id: its collation may differ from the
-- database's and from the ledger's. The subquery has no row; it gives the comparison the column's collation.
SELECT coalesce((SELECT id FROM {host}."Lead" LIMIT 0), :item) <= key
FROM unnest(CAST(:keys AS text[])) WITH ORDINALITY AS each (key, place)
ORDER BY place
