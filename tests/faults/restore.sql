-- Restore the host's initial state, whatever a test did to it, and empty the ledger.
DROP SCHEMA IF EXISTS fault CASCADE;
CREATE SCHEMA fault;
ALTER TABLE "BackgroundJob" DROP CONSTRAINT IF EXISTS fault;
TRUNCATE backfill.run CASCADE;
DELETE FROM "BackgroundJob";
INSERT INTO "Lead" SELECT * FROM audit.lead ON CONFLICT DO NOTHING;
INSERT INTO "Message" SELECT * FROM audit.message ON CONFLICT DO NOTHING;
INSERT INTO "BackgroundJob" SELECT * FROM audit.job;
UPDATE "Lead" AS lead
SET
  "fitScore" = was."fitScore",
  "intentScore" = was."intentScore",
  "overallScore" = was."overallScore",
  "scoredAt" = was."scoredAt",
  "scoreReasoning" = was."scoreReasoning"
FROM audit.lead AS was
WHERE was.id = lead.id AND lead."overallScore" IS DISTINCT FROM was."overallScore";
TRUNCATE audit.write;
