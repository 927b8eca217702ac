-- What one page left behind: rows that carry the page's own times. Jobs that existed before keep their createdAt, and
-- the host keeps changing jobs and scores, so only these two classes can be recounted reliably.
SELECT
  (
    SELECT count(*)
    FROM {host}."Lead" AS lead
    -- Looked up lead by lead: a plain join might start from the jobs and read all of them.
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
