-- The host's tables, with the columns that a backfill reads or writes and enough others to look real. Names, types,
-- nullability, foreign keys and indexes are the host's, so that what works here works there.
--
-- No name is qualified: the tables are created in the first schema of the search_path. As in the host, ids and
-- updatedAt have no default (the host's client sets them), and TIMESTAMP(3) columns contain UTC without a zone.

CREATE TYPE "BackgroundJobType" AS ENUM (
  'EMAIL_INBOUND_POST_PROCESS',
  'SMS_INBOUND_POST_PROCESS',
  'LINKEDIN_INBOUND_POST_PROCESS',
  'SMARTLEAD_INBOUND_POST_PROCESS',
  'INSTANTLY_INBOUND_POST_PROCESS',
  'LEAD_SCORING_POST_PROCESS',
  'CONVERSATION_SYNC',
  'AI_AUTO_SEND_DELAYED'
);
CREATE TYPE "BackgroundJobStatus" AS ENUM ('PENDING', 'RUNNING', 'SUCCEEDED', 'FAILED');

CREATE TABLE "Client" (
  "id" TEXT NOT NULL,
  "name" TEXT NOT NULL,
  "userId" TEXT NOT NULL,
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt" TIMESTAMP(3) NOT NULL,
  CONSTRAINT "Client_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "WorkspaceSettings" (
  "id" TEXT NOT NULL,
  "clientId" TEXT NOT NULL,
  "serviceDescription" TEXT,
  "qualificationQuestions" TEXT,
  "idealCustomerProfile" TEXT,
  "companyName" TEXT,
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt" TIMESTAMP(3) NOT NULL,
  CONSTRAINT "WorkspaceSettings_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "Lead" (
  "id" TEXT NOT NULL,
  "firstName" TEXT,
  "lastName" TEXT,
  "email" TEXT,
  "phone" TEXT,
  "jobTitle" TEXT,
  "companyName" TEXT,
  "companyWebsite" TEXT,
  "industry" TEXT,
  "employeeHeadcount" TEXT,
  "status" TEXT NOT NULL DEFAULT 'new',
  "sentimentTag" TEXT,
  "fitScore" INTEGER,
  "intentScore" INTEGER,
  "overallScore" INTEGER,
  "scoreReasoning" TEXT,
  "scoredAt" TIMESTAMP(3),
  "lastInboundAt" TIMESTAMP(3),
  "lastOutboundAt" TIMESTAMP(3),
  "lastZrgOutboundAt" TIMESTAMP(3),
  "lastMessageAt" TIMESTAMP(3),
  "lastMessageDirection" TEXT,
  "clientId" TEXT NOT NULL,
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt" TIMESTAMP(3) NOT NULL,
  CONSTRAINT "Lead_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "Message" (
  "id" TEXT NOT NULL,
  "channel" TEXT NOT NULL DEFAULT 'sms',
  "source" TEXT NOT NULL DEFAULT 'zrg',
  "body" TEXT NOT NULL,
  "subject" TEXT,
  "isRead" BOOLEAN NOT NULL DEFAULT false,
  "direction" TEXT NOT NULL,
  "sentBy" TEXT,
  "leadId" TEXT NOT NULL,
  "sentAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  CONSTRAINT "Message_pkey" PRIMARY KEY ("id")
);

-- All of the host's columns: the upsert of a job must leave none of them stale.
CREATE TABLE "BackgroundJob" (
  "id" TEXT NOT NULL,
  "type" "BackgroundJobType" NOT NULL,
  "status" "BackgroundJobStatus" NOT NULL DEFAULT 'PENDING',
  "dedupeKey" TEXT NOT NULL,
  "clientId" TEXT NOT NULL,
  "leadId" TEXT NOT NULL,
  "messageId" TEXT NOT NULL,
  "draftId" TEXT,
  "runAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "attempts" INTEGER NOT NULL DEFAULT 0,
  "maxAttempts" INTEGER NOT NULL DEFAULT 5,
  "lockedAt" TIMESTAMP(3),
  "lockedBy" TEXT,
  "startedAt" TIMESTAMP(3),
  "finishedAt" TIMESTAMP(3),
  "lastError" TEXT,
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt" TIMESTAMP(3) NOT NULL,
  CONSTRAINT "BackgroundJob_pkey" PRIMARY KEY ("id")
);

CREATE INDEX "Client_userId_idx" ON "Client" ("userId");

CREATE UNIQUE INDEX "WorkspaceSettings_clientId_key" ON "WorkspaceSettings" ("clientId");

CREATE INDEX "Lead_clientId_idx" ON "Lead" ("clientId");
CREATE INDEX "Lead_sentimentTag_idx" ON "Lead" ("sentimentTag");
CREATE INDEX "Lead_email_idx" ON "Lead" ("email");
CREATE INDEX "Lead_phone_idx" ON "Lead" ("phone");
CREATE INDEX "Lead_industry_idx" ON "Lead" ("industry");
CREATE INDEX "Lead_employeeHeadcount_idx" ON "Lead" ("employeeHeadcount");
CREATE INDEX "Lead_lastInboundAt_idx" ON "Lead" ("lastInboundAt" DESC);
CREATE INDEX "Lead_lastOutboundAt_idx" ON "Lead" ("lastOutboundAt" DESC);
CREATE INDEX "Lead_lastZrgOutboundAt_idx" ON "Lead" ("lastZrgOutboundAt" DESC);
CREATE INDEX "Lead_lastMessageAt_idx" ON "Lead" ("lastMessageAt" DESC);
CREATE INDEX "Lead_lastMessageDirection_idx" ON "Lead" ("lastMessageDirection");
CREATE INDEX "Lead_clientId_lastInboundAt_idx" ON "Lead" ("clientId", "lastInboundAt" DESC);
CREATE INDEX "Lead_clientId_status_idx" ON "Lead" ("clientId", "status");
CREATE INDEX "Lead_clientId_updatedAt_idx" ON "Lead" ("clientId", "updatedAt" DESC);
CREATE INDEX "Lead_clientId_status_updatedAt_idx" ON "Lead" ("clientId", "status", "updatedAt" DESC);
CREATE INDEX "Lead_clientId_sentimentTag_updatedAt_idx" ON "Lead" ("clientId", "sentimentTag", "updatedAt" DESC);
CREATE INDEX "Lead_clientId_firstName_idx" ON "Lead" ("clientId", "firstName");
CREATE INDEX "Lead_clientId_lastName_idx" ON "Lead" ("clientId", "lastName");
CREATE INDEX "Lead_overallScore_idx" ON "Lead" ("overallScore");
CREATE INDEX "Lead_clientId_overallScore_idx" ON "Lead" ("clientId", "overallScore");
CREATE INDEX "Lead_clientId_overallScore_updatedAt_idx" ON "Lead" ("clientId", "overallScore", "updatedAt" DESC);

CREATE INDEX "Message_leadId_idx" ON "Message" ("leadId");
CREATE INDEX "Message_sentAt_idx" ON "Message" ("sentAt" DESC);
CREATE INDEX "Message_source_idx" ON "Message" ("source");
CREATE INDEX "Message_channel_idx" ON "Message" ("channel");
CREATE INDEX "Message_leadId_direction_source_sentAt_idx" ON "Message" ("leadId", "direction", "source", "sentAt" DESC);
CREATE INDEX "Message_leadId_channel_sentAt_idx" ON "Message" ("leadId", "channel", "sentAt" DESC);

CREATE UNIQUE INDEX "BackgroundJob_dedupeKey_key" ON "BackgroundJob" ("dedupeKey");
CREATE INDEX "BackgroundJob_status_runAt_idx" ON "BackgroundJob" ("status", "runAt");
CREATE INDEX "BackgroundJob_clientId_idx" ON "BackgroundJob" ("clientId");
CREATE INDEX "BackgroundJob_leadId_idx" ON "BackgroundJob" ("leadId");
CREATE INDEX "BackgroundJob_messageId_idx" ON "BackgroundJob" ("messageId");
CREATE INDEX "BackgroundJob_draftId_idx" ON "BackgroundJob" ("draftId");

ALTER TABLE "WorkspaceSettings"
  ADD CONSTRAINT "WorkspaceSettings_clientId_fkey"
  FOREIGN KEY ("clientId") REFERENCES "Client" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "Lead"
  ADD CONSTRAINT "Lead_clientId_fkey"
  FOREIGN KEY ("clientId") REFERENCES "Client" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "Message"
  ADD CONSTRAINT "Message_leadId_fkey"
  FOREIGN KEY ("leadId") REFERENCES "Lead" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "BackgroundJob"
  ADD CONSTRAINT "BackgroundJob_clientId_fkey"
  FOREIGN KEY ("clientId") REFERENCES "Client" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
  ADD CONSTRAINT "BackgroundJob_leadId_fkey"
  FOREIGN KEY ("leadId") REFERENCES "Lead" ("id") ON DELETE CASCADE ON UPDATE CASCADE,
  ADD CONSTRAINT "BackgroundJob_messageId_fkey"
  FOREIGN KEY ("messageId") REFERENCES "Message" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
