"""The backfills that come with the package."""
