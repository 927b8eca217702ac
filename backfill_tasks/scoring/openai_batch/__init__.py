"""Scoring through the provider's Batch API: half the price, within 24 hours, and every step resumable."""

from importlib.util import find_spec

from backfill_tasks.errors import ExtraError

if find_spec("openai") is None:
    raise ExtraError("scoring in batches needs the package openai: `pip install 'backfill[openai]'`")

from backfill_tasks.scoring.openai_batch.ledger import Place, Submission
from backfill_tasks.scoring.openai_batch.results import Back, Collected
from backfill_tasks.scoring.openai_batch.scorer import BatchScorer
from backfill_tasks.scoring.openai_batch.turns import OpenAIBatch

__all__ = ["Back", "BatchScorer", "Collected", "OpenAIBatch", "Place", "Submission"]
