"""The command `backfill`: parse, call, show."""
