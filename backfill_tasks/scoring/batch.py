"""One batch: its conversations are scored concurrently in one event loop, with a heartbeat beside them."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine.database import reason
from backfill_tasks.scoring.claims import ABANDONED_SECONDS, RENEW_SECONDS, Result
from backfill_tasks.scoring.contract import (
    HIGHEST,
    LOWEST,
    Conversation,
    PostponedError,
    RefusedError,
    RetryableError,
    Score,
    Scorer,
    ScorerError,
    Unscored,
    Usage,
)
from backfill_tasks.scoring.sessions import BEAT_SECONDS

logger = logging.getLogger(__name__)

#: The longest that scoring one conversation may take, in seconds; a scorer's own time-outs are far shorter.
_LONGEST_REQUEST = 300.0

#: After this many failures in a row, the batch sends no further requests: the provider is down, and more failures would
#: only use up attempts.
_FAILURES_IN_A_ROW = 16


@dataclass(frozen=True)
class Answer:
    """The end of one conversation. `sent`: whether a request was sent; `usage`: what it used; None: unknown."""

    result: Result
    sent: bool
    usage: Usage | None = None


@dataclass(frozen=True)
class Pulse:
    """The result of a heartbeat. `going_on`: the session still runs; `held`: the jobs still held; None: not asked."""

    going_on: bool
    held: Collection[str] | None = None


Beat = Callable[[bool], Pulse]
"""Records a sign of life; if asked to, it also renews the locks of all the batch's jobs."""


class Batch:
    """Scores conversations, `concurrency` at a time.

    A conversation whose job is no longer held is dropped: its request is cancelled. No further request is sent once the
    scorer refuses, has no room, fails time after time, or the session has ended; the conversations left are given back.

    Attributes:
        refusal: why the scorer refuses every request; None: it doesn't.
        failure: why the last request that failed did so.
        tripped: whether the batch was cut short by failures in a row.
    """

    def __init__(self, scorer: Scorer, conversations: Sequence[Conversation], *, concurrency: int, beat: Beat) -> None:
        self.refusal: str | None = None
        self.failure: str | None = None
        self.tripped = False
        self._scorer = scorer
        self._waiting = deque(conversations)
        self._in_flight: dict[str, asyncio.Future[Score | Unscored]] = {}
        self._answers: list[Answer] = []
        self._concurrency = concurrency
        self._beat = beat
        self._failures = 0
        self._stopping = False

    def run(self) -> list[Answer]:
        """Score all conversations and return their answers; a dropped one has none."""
        asyncio.run(self._run())
        return self._answers

    async def _run(self) -> None:
        pulse = asyncio.create_task(self._pulses())
        try:
            async with self._scorer.opened() as scorer:
                many = min(self._concurrency, len(self._waiting))
                await asyncio.gather(*(self._work(scorer) for _ in range(many)))
        except RefusedError as error:
            self.refusal = str(error)
        except Exception as error:  # noqa: BLE001  a plug-in may fail in any way; its text may repeat a message
            self.failure = f"the scorer can't be opened: {type(error).__name__}"
        finally:
            pulse.cancel()
        self._answers += [Answer(Result(each.job, "back"), sent=False) for each in self._waiting]

    async def _work(self, scorer: Scorer) -> None:
        while self._waiting and not self._stopping:
            conversation = self._waiting.popleft()
            request = asyncio.ensure_future(asyncio.wait_for(scorer.score(conversation), _LONGEST_REQUEST))
            self._in_flight[conversation.job] = request
            await asyncio.wait([request])
            if self._in_flight.pop(conversation.job, None) is not None:
                self._answers.append(self._judged(conversation.job, request))

    def _judged(self, job: str, request: "asyncio.Future[Score | Unscored]") -> Answer:
        """Return the answer of a request that has ended, and take note of a failure."""
        try:
            answer = _answered(job, request.result())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  a plug-in may fail in any way
            return self._failed(job, error)
        self._failures = 0
        return answer

    def _failed(self, job: str, error: BaseException) -> Answer:
        usage = error.usage if isinstance(error, ScorerError) else None
        if isinstance(error, RefusedError):
            self.refusal, self._stopping = str(error), True
            return Answer(Result(job, "back"), sent=True, usage=usage)
        if isinstance(error, PostponedError):
            self._stopping = True
            return Answer(Result(job, "back", wait=error.after), sent=False)
        self.failure = _words(error)
        self._failures += 1
        self.tripped = self.tripped or self._failures >= _FAILURES_IN_A_ROW
        self._stopping = self._stopping or self.tripped
        wait = error.after if isinstance(error, RetryableError) else None
        return Answer(Result(job, "failed", error=self.failure, wait=wait), sent=True, usage=usage)

    async def _pulses(self) -> None:
        """Beat until the batch ends. Without an answer for so long that the locks may have lapsed, drop everything."""
        beaten = renewed = time.monotonic()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            renew = time.monotonic() - renewed >= RENEW_SECONDS - BEAT_SECONDS / 2
            try:
                pulse = await asyncio.to_thread(self._beat, renew)
            except DBAPIError as error:
                logger.warning("a batch's heartbeat failed: %s", reason(error))
                if time.monotonic() - beaten > ABANDONED_SECONDS - RENEW_SECONDS:
                    self._keep(())
                continue
            beaten = time.monotonic()
            if renew:
                renewed = beaten
            self._stopping = self._stopping or not pulse.going_on
            if pulse.held is not None:
                self._keep(pulse.held)

    def _keep(self, held: Collection[str]) -> None:
        """Drop the conversations whose jobs aren't held any more."""
        self._waiting = deque(each for each in self._waiting if each.job in held)
        for job in [job for job in self._in_flight if job not in held]:
            self._in_flight.pop(job).cancel()


def _answered(job: str, found: object) -> Answer:
    """Return what a scorer returned as an answer.

    Raises:
        TypeError: it is neither a score nor the lack of one.
    """
    if isinstance(found, Unscored):
        return Answer(Result(job, "unchanged"), sent=True, usage=found.usage)
    if not isinstance(found, Score):
        raise TypeError("not a score")
    return Answer(Result(job, "scored", _clamped(found)), sent=True, usage=found.usage)


def _words(error: BaseException) -> str:
    """Return why a request failed. The text of an error that isn't a scorer's own may repeat a message."""
    if isinstance(error, ScorerError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"the scorer took longer than {_LONGEST_REQUEST:.0f} s"
    return f"the scorer failed: {type(error).__name__}"


def _clamped(score: Score) -> Score:
    """Return the score with numbers that are in range, as the host does."""
    fit, intent, overall = (min(HIGHEST, max(LOWEST, round(each))) for each in (score.fit, score.intent, score.overall))
    return replace(score, fit=fit, intent=intent, overall=overall)
