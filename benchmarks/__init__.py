"""Benchmarks: the tool's speed, as ratios to the bare page statement and to one upsert per lead."""
