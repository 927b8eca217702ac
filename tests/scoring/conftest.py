"""Fixtures of the scorers' tests: settings, and a local provider."""

import secrets
from collections.abc import Callable, Iterator

import pytest
from scoring.openai_server import OpenAIServer, serving

from backfill_tasks import settings
from backfill_tasks.scoring.openai import OpenAI
from sandbox.servers import Servers

MakeOpenAI = Callable[..., OpenAI]


@pytest.fixture
def provider() -> Iterator[OpenAIServer]:
    """A provider that answers every request well until told otherwise."""
    with serving() as made:
        yield made


@pytest.fixture
def make_openai(provider: OpenAIServer, server: Servers) -> MakeOpenAI:
    """Makes the scorer for `provider`, with an account of its own and no limits unless given."""
    key = f"key-{secrets.token_hex(8)}"

    def make(**variables: str) -> OpenAI:
        return OpenAI(
            settings.load(
                {
                    "REDIS_URL": server.redis_url,
                    "OPENAI_API_KEY": key,
                    "OPENAI_BASE_URL": provider.url,
                    "BACKFILL_OPENAI_REQUESTS_PER_MINUTE": "none",
                    "BACKFILL_OPENAI_TOKENS_PER_MINUTE": "none",
                    **variables,
                }
            )
        )

    return make


@pytest.fixture
def openai(make_openai: MakeOpenAI) -> OpenAI:
    """The scorer with default settings."""
    return make_openai()
