-- For how many seconds the oldest due job of any kind has waited; no row: none is due. By the index of status and runAt.
-- A time before 1970, -infinity included, counts as 1970.
SELECT extract(epoch FROM now() AT TIME ZONE 'UTC' - greatest("runAt", timestamp '1970-01-01'))::float8
FROM {host}."BackgroundJob"
WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC'
ORDER BY "runAt"
LIMIT 1
