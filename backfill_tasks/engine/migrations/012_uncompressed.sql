-- Uncompressed: the ids that a page has enqueued. Random ids don't get smaller, and the attempt to compress them takes a
-- fifth of the time of recording a page.
ALTER TABLE backfill.page ALTER COLUMN enqueued SET STORAGE EXTERNAL;
