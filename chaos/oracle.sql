-- The verdict on a schedule: one row per violation, with the broken rule. No row: the run kept its promises.
-- It reads the tables directly and shares no code with the backfill.
WITH
  run AS (SELECT * FROM backfill.run),
  classes (class) AS (
    VALUES ('inserted'), ('requeued'), ('refreshed'), ('in_flight'), ('disqualified'), ('quarantined')
  ),
  -- The sums of the counts of each lane's pages.
  summed AS (
    SELECT page.run_id, page.lane, count.key, sum(count.value::bigint) AS number
    FROM backfill.page CROSS JOIN LATERAL jsonb_each_text(page.counts) AS count
    WHERE count.value ~ '^[0-9]+$'
    GROUP BY 1, 2, 3
  ),
  -- The counts recorded in the lanes.
  noted AS (
    SELECT lane.run_id, lane.number AS lane, count.key, count.value::bigint AS number
    FROM backfill.lane CROSS JOIN LATERAL jsonb_each_text(lane.counts) AS count
    WHERE count.value ~ '^[0-9]+$'
  ),
  chained AS (
    SELECT
      page.*,
      lag(cursor) OVER lane AS cursor_before,
      row_number() OVER lane AS should_be
    FROM backfill.page
    WINDOW lane AS (PARTITION BY run_id, page.lane ORDER BY number)
  ),
  -- Leads that were owed something at some time and got nothing, and when a page passed them. A host's change is
  -- recorded before it commits, and a fault may delay the commit: pages may have missed changes of the last 30 s.
  unwritten AS (
    SELECT
      lead,
      coalesce(page.at - interval '30 s', '-infinity') AS since,
      coalesce(page.at + page.seconds * interval '1 s', 'infinity') AS until
    FROM (SELECT DISTINCT lead FROM audit.owed WHERE what <> 'nothing') AS owed
    LEFT JOIN backfill.page ON (page.lower IS NULL OR lead > page.lower) AND lead <= page.cursor
    WHERE NOT EXISTS (SELECT FROM audit.write WHERE write.lead = owed.lead)
  ),
  written AS (
    SELECT
      lead,
      CASE WHEN job_was IS NULL THEN 'score' ELSE 'job' END AS what,
      audit.owed_within(lead, at - interval '30 s', at) AS owed
    FROM audit.write
  )

SELECT 'enqueued twice' AS rule, lead || ': ' || count(*) || ' writes' AS detail
FROM audit.write GROUP BY lead HAVING count(*) > 1

UNION ALL
SELECT 'skipped', lead || ' was owed a ' || array_to_string(audit.owed_within(lead, since, until), ', then a ')
FROM unwritten
WHERE 'nothing' <> ALL (audit.owed_within(lead, since, until)) AND EXISTS (SELECT FROM run WHERE state = 'complete')

UNION ALL
SELECT 'written without cause', lead || ' got a ' || what || ' and was owed ' || array_to_string(owed, ', then ')
FROM written WHERE what <> ALL (owed)

UNION ALL
SELECT 'RUNNING job reset', lead FROM audit.write WHERE job_was = 'RUNNING'

UNION ALL
SELECT 'foreign row changed', what || ' ' || id FROM audit.intrusion

UNION ALL
SELECT 'host table altered', what
FROM audit.structure FULL JOIN audit.structure_before AS before USING (what)
WHERE structure.how IS DISTINCT FROM before.how

UNION ALL
SELECT 'ledger: a lane and its pages differ', run_id || ' lane ' || lane || ' ' || key
FROM noted FULL JOIN summed USING (run_id, lane, key)
WHERE coalesce(noted.number, 0) <> coalesce(summed.number, 0)

UNION ALL
SELECT 'ledger: the classes do not add up to the leads read', page.run_id || ' lane ' || page.lane || ' page ' || number
FROM backfill.page
WHERE (page.counts ->> 'read')::bigint
  <> (SELECT coalesce(sum((page.counts ->> class)::bigint), 0) FROM classes)

UNION ALL
SELECT 'ledger: pages are not one chain', run_id || ' lane ' || lane || ' page ' || number
FROM chained
WHERE number <> should_be OR (number > 1 AND lower IS DISTINCT FROM cursor_before)

UNION ALL
SELECT 'ledger: the counts differ from what was written', counted.number || ' counted, ' || written.number || ' written'
FROM
  (
    SELECT coalesce(sum(number), 0) AS number FROM summed
    WHERE key IN ('inserted', 'requeued', 'refreshed', 'disqualified')
  ) AS counted,
  (SELECT count(*) AS number FROM audit.write) AS written
WHERE counted.number <> written.number

UNION ALL
SELECT 'lead quarantined by a passing fault', item || ': ' || error FROM backfill.quarantine

UNION ALL
SELECT 'lane failed', run_id || ' lane ' || number || ': ' || coalesce(reason, 'no reason')
FROM backfill.lane WHERE state = 'failed'

UNION ALL
SELECT 'run not complete', id || ' is ' || state || coalesce(': ' || reason, '')
FROM run WHERE state <> 'complete'

ORDER BY 1, 2
