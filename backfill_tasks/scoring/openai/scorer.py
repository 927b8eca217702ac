"""Scores conversations through a model's API: requests, retries and limits, and what they use."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import httpx2
from openai import APIError, AsyncOpenAI

from backfill_tasks import settings as configuration
from backfill_tasks.errors import ConfigurationError
from backfill_tasks.scoring import prompt
from backfill_tasks.scoring.contract import (
    Conversation,
    PostponedError,
    RefusedError,
    RetryableError,
    Score,
    Scorer,
    Unscored,
    Usage,
)
from backfill_tasks.scoring.openai import answer, failures, headers, limits, requests
from backfill_tasks.scoring.openai.failures import Failure
from backfill_tasks.settings import Settings

#: How many requests one call of `score` makes at most: one, and two retries, as the host does.
ATTEMPTS = 3

#: A retry waits at most this many seconds within a call; if the server asks for more, the job goes back to the queue.
_PATIENCE = 30.0

#: No request of a call starts later than this many seconds after the call: a caller doesn't wait for ever.
_LATEST_START = 200.0

_NO_ROOM = "the fleet's limits had no room for a request"
_MAKE_ROOM = (
    "raise BACKFILL_OPENAI_REQUESTS_PER_MINUTE or BACKFILL_OPENAI_TOKENS_PER_MINUTE, or have fewer requests in flight;"
    " without Redis, nothing is sent"
)

#: Loggers that write whole requests at level DEBUG, which a worker started with `--loglevel debug` would switch on.
_TALKATIVE = ("openai", "httpx2", "httpcore2", "httpx", "httpcore")


class OpenAI(Scorer):
    """The scorer `openai`. Its settings are read when it is created.

    Raises:
        ConfigurationError: OPENAI_API_KEY isn't set, or the prompt file is invalid.
    """

    name = "openai"

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = configuration.load() if settings is None else settings
        if not self._settings.openai_api_key:
            raise ConfigurationError(
                "OPENAI_API_KEY is not set, and the scorer openai needs it: set it where the workers run"
                " (any text for a server that asks for no key)"
            )
        self._prompt = prompt.load(self._settings.prompt_file)
        self._dialect = requests.DIALECTS[self._settings.openai_api]

    @property
    def model(self) -> str:
        """The model that is paid for."""
        return self._settings.openai_model

    def body(self, conversation: Conversation) -> requests.Body:
        """Return the body of the request for one conversation."""
        return self._dialect.body(self._prompt.messages(conversation), self._settings)

    def upper_bound(self, conversation: Conversation) -> Usage:
        """Return the most tokens that all attempts of one call can be billed for: see `requests.upper_bound`."""
        one = requests.upper_bound(self.body(conversation), self._settings.openai_max_output_tokens)
        return Usage(one.input_tokens * ATTEMPTS, one.output_tokens * ATTEMPTS)

    def estimate(self, conversation: Conversation) -> Usage:
        """Return about what one request for this conversation takes."""
        return requests.expected(self.body(conversation), self._settings)

    async def score(self, conversation: Conversation) -> Score | Unscored:
        """Score one conversation over connections of its own; `opened` shares them."""
        async with self.opened() as scorer:
            return await scorer.score(conversation)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Scorer]:
        """Open connections to the server and to Redis, and yield a scorer that uses them."""
        for each in _TALKATIVE:
            logging.getLogger(each).setLevel(logging.WARNING)
        client = AsyncOpenAI(
            api_key=self._settings.openai_api_key,
            base_url=self._settings.openai_base_url,
            timeout=self._settings.openai_timeout,
            max_retries=0,  # ours are counted
        )
        async with client, limits.opened(self._settings) as shared:
            yield _Opened(self, client, shared, self._dialect.path, self._settings)


@dataclass(frozen=True)
class _Reply:
    """The outcome of one request. `usage`: what it is known to have used, or its upper bound."""

    outcome: Score | Unscored | Failure
    usage: Usage


@dataclass(frozen=True, eq=False)
class _Opened(Scorer):
    """The scorer with its connections."""

    name = OpenAI.name
    whole: OpenAI
    client: AsyncOpenAI
    limits: limits.Limits
    path: str
    settings: Settings

    @property
    def model(self) -> str:
        return self.whole.model

    def upper_bound(self, conversation: Conversation) -> Usage:
        return self.whole.upper_bound(conversation)

    async def score(self, conversation: Conversation) -> Score | Unscored:
        """Send requests until one is answered, at most `ATTEMPTS`.

        Raises:
            RetryableError: all failed for a passing reason, or the server asks for a long wait.
            PostponedError: the fleet's limits had no room, and no request was sent.
            RefusedError: every further request would fail, too.
        """
        body = self.whole.body(conversation)
        used = Usage()
        latest = asyncio.get_running_loop().time() + _LATEST_START
        for attempt in range(1, ATTEMPTS + 1):
            if not await self._has_room(body, latest):
                kind = PostponedError if attempt == 1 else RetryableError
                raise kind(f"{_NO_ROOM} within {_LATEST_START:.0f} s: {_MAKE_ROOM}", usage=used)
            reply = await self._request(body)
            used = Usage(used.input_tokens + reply.usage.input_tokens, used.output_tokens + reply.usage.output_tokens)
            if not isinstance(reply.outcome, Failure):
                return replace(reply.outcome, usage=used)
            failure = reply.outcome
            if failure.verdict == "unscored":
                return Unscored(failure.text, used)
            if failure.verdict == "refuse":
                raise RefusedError(failure.text, usage=used)
            if attempt == ATTEMPTS or (failure.after or 0) > _PATIENCE:
                break
            await asyncio.sleep(_pause(attempt) if failure.after is None else failure.after)
        raise RetryableError(failure.text, after=failure.after, usage=used)

    async def _has_room(self, body: requests.Body, latest: float) -> bool:
        """Wait until the fleet's limits have room for a request; return whether they had it in time."""
        try:
            async with asyncio.timeout_at(latest):
                await self.limits.take(requests.estimate(body, self.settings.openai_max_output_tokens))
        except TimeoutError:
            return False
        return True

    async def _request(self, body: requests.Body) -> _Reply:
        """Send one request that has got room, and correct the limits by its answer."""
        most = self.settings.openai_max_output_tokens
        estimate, bound = requests.estimate(body, most), requests.upper_bound(body, most)
        try:
            response = await self._sent(body)
            found = answer.read(response.text)
        except answer.BrokenAnswerError:
            return _Reply(failures.broken(), bound)
        except (APIError, TimeoutError, httpx2.HTTPError) as error:
            failure = failures.of(error, self.settings, tokens=estimate)
            await self.limits.correct(0, hold=failure.hold)
            return _Reply(failure, bound if failure.billed else Usage())
        usage = found.usage or bound
        excess = usage.input_tokens + usage.output_tokens - estimate if found.usage else 0
        await self.limits.correct(excess, hold=headers.until_room(response.headers, estimate))
        return _Reply(found.result, usage)

    async def _sent(self, body: requests.Body) -> httpx2.Response:
        """Send one request and return the complete answer.

        The client's own time-out is for each read: a server that sends a byte now and then would never meet it.
        """
        async with asyncio.timeout(self.settings.openai_timeout):
            return await self.client.post(self.path, cast_to=httpx2.Response, body=body)


def _pause(attempt: int) -> float:
    """Return the seconds before a retry when the server names none: 0.5 and 1, each up to half shorter."""
    return float(2 ** (attempt - 2)) * random.uniform(0.5, 1.0)  # noqa: S311  no secret
