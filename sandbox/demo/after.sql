-- What became of the leads that before.sql has recorded, and of the backfill's jobs.
SELECT
  count(*) FILTER (WHERE before.eligible) AS eligible,
  count(*) FILTER (WHERE before.eligible AND lead."overallScore" BETWEEN 1 AND 4) AS scored,
  count(*) FILTER (WHERE before.eligible AND before.disqualified) AS disqualified,
  count(*) FILTER (WHERE before.eligible AND before.disqualified AND lead."overallScore" = 1) AS scored_1,
  count(*) FILTER (
    WHERE NOT before.eligible AND NOT before.has_job AND md5(lead::text) IS DISTINCT FROM before.contents
  ) AS changed,
  (
    SELECT count(*) FROM "BackgroundJob"
    WHERE starts_with("dedupeKey", 'lead_scoring_backfill:') AND status IN ('PENDING', 'RUNNING')
  ) AS open_jobs
FROM demo.lead AS before
LEFT JOIN "Lead" AS lead ON lead.id = before.id;
