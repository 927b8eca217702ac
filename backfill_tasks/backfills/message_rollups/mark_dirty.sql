-- Mark the inbox counts of workspaces whose leads have changed as stale, as the host does after each change.
INSERT INTO {host}."InboxCountsDirty" ("clientId", "dirtyAt")
SELECT id, clock_timestamp() AT TIME ZONE 'UTC' FROM unnest(CAST(:clients AS text[])) AS client (id) ORDER BY id
ON CONFLICT ("clientId") DO UPDATE SET "dirtyAt" = EXCLUDED."dirtyAt"
