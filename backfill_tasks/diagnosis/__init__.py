"""Diagnosis: why a lane that should move doesn't. Used by the command, its JSON output and the exporter."""

from backfill_tasks.diagnosis.diagnoser import Diagnoser, explained, needs_reason
from backfill_tasks.diagnosis.facts import Key
from backfill_tasks.diagnosis.rules import KINDS, Reason

__all__ = ["KINDS", "Diagnoser", "Key", "Reason", "explained", "needs_reason"]
