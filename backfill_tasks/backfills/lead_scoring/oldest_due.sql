-- How long the oldest due job of any kind has waited, in seconds; no row if none is due. Uses the index on status and
-- runAt. A time before 1970, -infinity included, counts as 1970.
SELECT extract(epoch FROM now() AT TIME ZONE 'UTC' - greatest("runAt", timestamp '1970-01-01'))::float8
FROM {host}."BackgroundJob"
WHERE status = 'PENDING' AND "runAt" <= now() AT TIME ZONE 'UTC'
ORDER BY "runAt"
LIMIT 1
