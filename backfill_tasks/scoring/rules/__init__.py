"""The scorer `rules`: offline and deterministic, from phrases and a few facts. It needs no key and costs nothing."""

from backfill_tasks.scoring.rules.scorer import Rules

__all__ = ["Rules"]
