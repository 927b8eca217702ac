-- For the verification: which leads of a stretch lag.
SELECT cursor, (SELECT coalesce(array_agg(id ORDER BY id), '{{}}') FROM picked) AS leads FROM page_end
