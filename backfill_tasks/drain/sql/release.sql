-- Free the lease, unless somebody else has taken it.
UPDATE backfill.drain SET lease_until = now() WHERE generation = :generation
