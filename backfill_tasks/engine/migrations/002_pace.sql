-- Pace: what a run needs to be slowed down, tuned and sized while it is in progress.

-- Runs that started before this version had no bounds.
UPDATE backfill.run
SET
  parameters = parameters || '{
    "jobs_per_minute": null, "max_pending": null, "max_jobs": null, "max_live_wait": 0, "target_page_ms": 0,
    "cost_per_job": null
  }';

-- When quarantined items of the page succeeded later: the host's rows carry these times.
ALTER TABLE backfill.page ADD COLUMN retried timestamptz[] NOT NULL DEFAULT '{}';

-- The due time of the run's last spread item; the next one comes due after it. Null: none is spread yet.
ALTER TABLE backfill.run ADD COLUMN due_at timestamptz;

ALTER TABLE backfill.lane
  ADD COLUMN size         integer,                      -- the limit of the next page; null: the run's limit
  ADD COLUMN page_seconds double precision,             -- the duration of the last page
  ADD COLUMN waits        integer NOT NULL DEFAULT 0;   -- how often the next page has been put off for pressure or pace
