"""Nothing of a conversation reaches a log, an error or Redis, whatever the server does, even at level DEBUG."""

import asyncio
import json
import logging
import traceback

import pytest
from redis import Redis
from scoring.conftest import MakeOpenAI
from scoring.openai_server import Behaviour, OpenAIServer, failing
from scoring.samples import MARKERS, marked

from backfill_tasks.engine import redis_client
from backfill_tasks.scoring.contract import RefusedError, RetryableError, Unscored
from sandbox.servers import Servers

TROUBLE = (
    failing(400),
    failing(400, "context_length_exceeded"),
    failing(400, "unsupported_parameter", "text"),
    failing(401),
    failing(404),
    failing(429, "insufficient_quota"),
    failing(429, retry_after="0"),
    failing(500),
    Behaviour(reset=True),
    Behaviour(cut=30),
    Behaviour(latency=1.0),
    Behaviour(says=" ".join(MARKERS)),
    Behaviour(says=json.dumps),
    Behaviour(says=None, body=b"ECHO"),
)


@pytest.fixture
def redis(server: Servers) -> Redis:
    return redis_client.connect(server.redis_url)


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda it: f"{it.status} {str(it.says)[:12]} {it.body[:12]!r}")
def test_no_marker_is_repeated(
    make_openai: MakeOpenAI,
    provider: OpenAIServer,
    trouble: Behaviour,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    provider.default = trouble
    said = ""
    with caplog.at_level(logging.DEBUG):
        try:
            found = asyncio.run(make_openai(BACKFILL_OPENAI_TIMEOUT="0.3").score(marked()))
        except (RefusedError, RetryableError) as error:
            said = "".join(traceback.format_exception(error)) + repr(error.args)
        else:
            assert isinstance(found, Unscored)
            said = found.why

    captured = capfd.readouterr()
    everything = f"{said}\n{caplog.text}\n{captured.out}\n{captured.err}"
    assert provider.requests
    assert [marker for marker in MARKERS if marker in everything] == []


def test_redis_holds_numbers_only(make_openai: MakeOpenAI, redis: Redis) -> None:
    before = set(redis.keys("backfill:openai:*"))

    asyncio.run(make_openai().score(marked()))

    [key] = set(redis.keys("backfill:openai:*")) - before
    assert not any(marker in key for marker in MARKERS)
    for name, value in redis.hgetall(key).items():
        assert name in {"requests", "tokens", "held"}
        float(value)
