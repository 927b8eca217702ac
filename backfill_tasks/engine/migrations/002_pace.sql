-- Pace: what a run needs to be held back, steered and sized while it goes on.

-- A run that began before had no bounds.
UPDATE backfill.run
SET
  parameters = parameters || '{
    "jobs_per_minute": null, "max_pending": null, "max_jobs": null, "max_live_wait": 0, "target_page_ms": 0,
    "cost_per_job": null
  }';

-- When items of the page that had been quarantined went through after all: the host's rows carry these times.
ALTER TABLE backfill.page ADD COLUMN retried timestamptz[] NOT NULL DEFAULT '{}';

-- Until when the run's items are spread: the next one falls due after it. Null: none is spread yet.
ALTER TABLE backfill.run ADD COLUMN due_at timestamptz;

ALTER TABLE backfill.lane
  ADD COLUMN size         integer,                      -- what the next page may hold; null: the run's limit
  ADD COLUMN page_seconds double precision,             -- what the last page took
  ADD COLUMN waits        integer NOT NULL DEFAULT 0;   -- how often the next page has been put off for pressure or pace
