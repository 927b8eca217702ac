-- An auditor in the host database: a copy of the host's initial state, and every committed write of the backfill.
-- A repeated upsert leaves no trace in the host's tables; here each repetition adds a row.
CREATE SCHEMA audit;

CREATE TABLE audit.lead AS TABLE "Lead";
CREATE TABLE audit.message AS TABLE "Message";
CREATE TABLE audit.job AS TABLE "BackgroundJob";
CREATE TABLE audit.write (lead text NOT NULL, job_was text);

CREATE FUNCTION audit.note_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('application_name') = 'backfill' THEN
    INSERT INTO audit.write VALUES (NEW."leadId", CASE TG_OP WHEN 'INSERT' THEN 'NONE' ELSE OLD.status::text END);
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION audit.note_lead() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('application_name') = 'backfill' THEN
    INSERT INTO audit.write VALUES (NEW.id, NULL);
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER audit AFTER INSERT OR UPDATE ON "BackgroundJob" FOR EACH ROW EXECUTE FUNCTION audit.note_job();
CREATE TRIGGER audit AFTER UPDATE ON "Lead" FOR EACH ROW EXECUTE FUNCTION audit.note_lead();

-- The result that a run over all unscored leads owes to each lead, given the host's initial state.
CREATE TABLE audit.owed AS
SELECT
  lead.id AS lead,
  CASE
    WHEN lead."overallScore" IS NOT NULL OR anchor.id IS NULL THEN 'nothing'
    WHEN lead."sentimentTag" IN (
      'Blacklist', 'Opt Out', 'Opted Out', 'Unsubscribe', 'Unsubscribed', 'Bounced', 'Bounce'
    ) THEN 'score'
    WHEN job.status = 'RUNNING' THEN 'nothing'
    ELSE 'job'
  END AS what,
  anchor.id AS anchor
FROM "Lead" AS lead
LEFT JOIN "BackgroundJob" AS job ON job."dedupeKey" = 'lead_scoring_backfill:' || lead.id
LEFT JOIN LATERAL (
  SELECT id
  FROM "Message"
  WHERE "leadId" = lead.id AND direction = 'inbound'
  ORDER BY "sentAt" DESC, id DESC
  LIMIT 1
) AS anchor ON true;
ALTER TABLE audit.owed ADD PRIMARY KEY (lead);

-- Leads that didn't get the owed result exactly once.
CREATE VIEW audit.wronged AS
SELECT
  owed.lead,
  owed.what AS owed,
  (SELECT count(*) FROM audit.write WHERE write.lead = owed.lead) AS writes,
  job.status,
  lead."overallScore" AS score
FROM audit.owed
JOIN "Lead" AS lead ON lead.id = owed.lead
LEFT JOIN "BackgroundJob" AS job ON job."dedupeKey" = 'lead_scoring_backfill:' || owed.lead
WHERE
  (SELECT count(*) FROM audit.write WHERE write.lead = owed.lead) <> CASE owed.what WHEN 'nothing' THEN 0 ELSE 1 END
  OR (owed.what = 'score' AND lead."overallScore" IS DISTINCT FROM 1)
  OR (
    owed.what = 'job'
    AND (job.status, job.attempts, job."messageId") IS DISTINCT FROM ('PENDING'::"BackgroundJobStatus", 0, owed.anchor)
  );
