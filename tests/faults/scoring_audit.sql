-- Witnesses every change of a job's holder and every score. A trigger sees what no participant may hide.
CREATE SCHEMA audit;

CREATE TABLE audit.held (job text, holder text, attempt integer, most integer, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE audit.wrong (job text, what text);
CREATE TABLE audit.score (lead text, reasoning text);

CREATE FUNCTION audit.watch_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.status = 'RUNNING' AND OLD.status <> 'RUNNING' THEN
    INSERT INTO audit.held (job, holder, attempt, most) VALUES (NEW.id, NEW."lockedBy", NEW.attempts, NEW."maxAttempts");
  END IF;
  IF
    OLD.status = 'RUNNING' AND NEW.status = 'RUNNING' AND NEW."lockedBy" IS DISTINCT FROM OLD."lockedBy"
    -- A batch of ours passes its jobs on to its submission.
    AND NOT (OLD."lockedBy" LIKE 'backfill:%:slot-%' AND NEW."lockedBy" LIKE 'backfill:backfill-%')
  THEN
    INSERT INTO audit.wrong VALUES (NEW.id, 'taken from its holder');
  END IF;
  IF NEW.attempts > NEW."maxAttempts" THEN
    INSERT INTO audit.wrong VALUES (NEW.id, 'an attempt beyond the maximum');
  END IF;
  IF OLD.status IN ('SUCCEEDED', 'FAILED') THEN
    INSERT INTO audit.wrong VALUES (NEW.id, 'changed after its end');
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION audit.watch_lead() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit.score VALUES (NEW.id, NEW."scoreReasoning");
  IF OLD."updatedAt" <> NEW."updatedAt" THEN
    INSERT INTO audit.wrong VALUES (NEW.id, 'updatedAt was changed');
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER watch AFTER UPDATE ON "BackgroundJob" FOR EACH ROW EXECUTE FUNCTION audit.watch_job();
CREATE TRIGGER watch AFTER UPDATE OF "overallScore" ON "Lead" FOR EACH ROW EXECUTE FUNCTION audit.watch_lead();
