-- An auditor in the host database, installed before the run starts. The fleet connects as the role `app`; every other
-- session is the host's. The functions run with their owner's privileges, so `app` needs none in this schema.
CREATE SCHEMA audit;

CREATE TABLE audit.lead AS TABLE "Lead";
CREATE TABLE audit.message AS TABLE "Message";
CREATE TABLE audit.job AS TABLE "BackgroundJob";

-- What the run wrote: one row per write of a job or a score. A repeated upsert leaves no trace in the host's tables.
CREATE TABLE audit.write (lead text NOT NULL, job_was text, at timestamptz NOT NULL DEFAULT clock_timestamp());

-- What the run must not write.
CREATE TABLE audit.intrusion (what text NOT NULL, id text NOT NULL);

-- What the run owes to a lead in the host's current state: nothing, a score, or a job. A deleted lead: nothing.
CREATE FUNCTION audit.owes(lead_id text) RETURNS text LANGUAGE sql STABLE SET search_path = public AS $$
  SELECT coalesce((
    SELECT
      CASE
        WHEN lead."overallScore" IS NOT NULL OR NOT EXISTS (
          SELECT FROM "Message" WHERE "leadId" = lead.id AND direction = 'inbound'
        ) THEN 'nothing'
        WHEN lead."sentimentTag" IN (
          'Blacklist', 'Opt Out', 'Opted Out', 'Unsubscribe', 'Unsubscribed', 'Bounced', 'Bounce'
        ) THEN 'score'
        WHEN job.status = 'RUNNING' THEN 'nothing'
        ELSE 'job'
      END
    FROM "Lead" AS lead
    LEFT JOIN "BackgroundJob" AS job ON job."dedupeKey" = 'lead_scoring_backfill:' || lead.id
    WHERE lead.id = lead_id
  ), 'nothing')
$$;

-- What the run owed to each lead at its start and after each later change by the host.
CREATE TABLE audit.owed (lead text NOT NULL, what text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());

CREATE FUNCTION audit.touch(lead text) RETURNS void LANGUAGE sql AS $$
  INSERT INTO audit.owed (lead, what) SELECT lead, audit.owes(lead) WHERE lead IS NOT NULL
$$;

-- Leads whose job of ours the host has deleted: a job is deleted with its lead, or with the message it refers to.
CREATE TABLE audit.lost (lead text NOT NULL);

CREATE FUNCTION audit.note_job() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
  job "BackgroundJob" := CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
BEGIN
  IF session_user <> 'app' THEN
    PERFORM audit.touch(job."leadId");
    IF TG_OP = 'DELETE' AND job."dedupeKey" = 'lead_scoring_backfill:' || job."leadId" THEN
      INSERT INTO audit.lost VALUES (job."leadId");
    END IF;
  ELSIF TG_OP = 'DELETE' OR job."dedupeKey" <> 'lead_scoring_backfill:' || job."leadId" THEN
    INSERT INTO audit.intrusion VALUES ('BackgroundJob ' || TG_OP, job.id);
  ELSE
    INSERT INTO audit.write VALUES (job."leadId", CASE TG_OP WHEN 'INSERT' THEN 'NONE' ELSE OLD.status::text END);
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION audit.note_lead() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
  -- The columns that disqualifying a lead may change.
  scored constant text[] := ARRAY['fitScore', 'intentScore', 'overallScore', 'scoredAt', 'scoreReasoning'];
BEGIN
  IF session_user <> 'app' THEN
    PERFORM audit.touch(CASE TG_OP WHEN 'DELETE' THEN OLD.id ELSE NEW.id END);
  ELSIF TG_OP <> 'UPDATE' THEN
    INSERT INTO audit.intrusion VALUES ('Lead ' || TG_OP, coalesce(OLD.id, NEW.id));
  ELSIF to_jsonb(OLD) - scored <> to_jsonb(NEW) - scored OR OLD."overallScore" IS NOT NULL THEN
    INSERT INTO audit.intrusion VALUES ('Lead columns', OLD.id);
  ELSE
    INSERT INTO audit.write VALUES (NEW.id, NULL);
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION audit.note_message() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
  IF session_user = 'app' THEN
    INSERT INTO audit.intrusion VALUES ('Message ' || TG_OP, coalesce(NEW.id, OLD.id));
  ELSE
    PERFORM audit.touch(coalesce(NEW."leadId", OLD."leadId"));
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION audit.note_other() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
  IF session_user = 'app' THEN
    INSERT INTO audit.intrusion VALUES (TG_TABLE_NAME || ' ' || TG_OP, coalesce(NEW.id, OLD.id));
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON "BackgroundJob"
  FOR EACH ROW EXECUTE FUNCTION audit.note_job();
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON "Lead"
  FOR EACH ROW EXECUTE FUNCTION audit.note_lead();
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON "Message"
  FOR EACH ROW EXECUTE FUNCTION audit.note_message();
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON "Client"
  FOR EACH ROW EXECUTE FUNCTION audit.note_other();
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON "WorkspaceSettings"
  FOR EACH ROW EXECUTE FUNCTION audit.note_other();

INSERT INTO audit.owed SELECT id, audit.owes(id), '-infinity' FROM "Lead";
CREATE INDEX ON audit.owed (lead, at);

-- Everything that a lead was owed at some time within a span.
CREATE FUNCTION audit.owed_within(lead_id text, since timestamptz, until timestamptz)
RETURNS text[] LANGUAGE sql STABLE AS $$
  WITH before AS (SELECT what FROM audit.owed WHERE lead = lead_id AND at <= since ORDER BY at DESC LIMIT 1)
  SELECT
    array(SELECT what FROM audit.owed WHERE lead = lead_id AND at > since AND at <= until)
    || coalesce((SELECT what FROM before), 'nothing')
$$;

-- The host's tables in the catalog: columns, indexes, constraints, triggers, row-level security, owner.
CREATE VIEW audit.structure AS
SELECT 'relation ' || relname AS what, concat_ws(' ', relkind, relrowsecurity, relforcerowsecurity, relowner) AS how
FROM pg_class WHERE relnamespace = 'public'::regnamespace
UNION ALL
SELECT
  'column ' || attrelid::regclass || '.' || attname,
  concat_ws(' ', format_type(atttypid, atttypmod), attnotnull, atthasdef, attisdropped)
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = 'public'::regnamespace AND attnum > 0
UNION ALL
SELECT 'index ' || indexrelid::regclass, pg_get_indexdef(indexrelid) || ' ' || indisvalid
FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'constraint ' || conrelid::regclass || ' ' || conname, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
UNION ALL
SELECT 'trigger ' || tgrelid::regclass || ' ' || tgname, concat_ws(' ', pg_get_triggerdef(pg_trigger.oid), tgenabled)
FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE relnamespace = 'public'::regnamespace AND NOT tgisinternal;
CREATE TABLE audit.structure_before AS TABLE audit.structure;
