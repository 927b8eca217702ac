"""The backfills that ship with the package."""
