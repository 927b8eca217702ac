-- What one page left behind: rows that carry the page's own times. Jobs that existed before keep their createdAt, and
-- both they and scores go on to be changed by the host, so only these two classes can be counted for good.
SELECT
  (
    SELECT count(*)
    FROM {host}."Lead" AS lead
    -- Looked up lead by lead: as a plain join it might begin at the jobs, all of them.
    CROSS JOIN LATERAL (
      SELECT job."createdAt"
      FROM {host}."BackgroundJob" AS job
      WHERE job."dedupeKey" = :key_prefix || lead.id
      LIMIT 1
    ) AS job
    WHERE
      (CAST(:lower AS text) IS NULL OR lead.id > :lower) AND lead.id <= :cursor
      AND job."createdAt" = ANY (CAST(:times AS timestamp(3)[]))
  ) AS inserted,
  (
    SELECT count(*)
    FROM {host}."Lead" AS lead
    WHERE
      (CAST(:lower AS text) IS NULL OR lead.id > :lower) AND lead.id <= :cursor
      AND lead."scoredAt" = ANY (CAST(:times AS timestamp(3)[]))
      AND starts_with(lead."scoreReasoning", :disqualified_reasoning)
  ) AS disqualified
