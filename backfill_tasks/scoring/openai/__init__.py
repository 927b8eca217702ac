"""The scorer `openai`: a model behind OpenAI's API, or behind a server with the same API."""

from importlib.util import find_spec

from backfill_tasks.errors import ExtraError

if find_spec("openai") is None:
    raise ExtraError("the scorer openai needs the package openai: `pip install 'backfill[openai]'`")

from backfill_tasks.scoring.openai.scorer import OpenAI

__all__ = ["OpenAI"]
