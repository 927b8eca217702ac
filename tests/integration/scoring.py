"""Scoring on a site's database, with the test in Celery's place, and a scorer that does what messages say."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from integration.site import NOON, Site

from backfill_tasks.scoring import claims
from backfill_tasks.scoring.claims import Claims
from backfill_tasks.scoring.contract import (
    AnyScorer,
    Conversation,
    PostponedError,
    RefusedError,
    RetryableError,
    Score,
    Scorer,
    Unscored,
    Usage,
)
from backfill_tasks.scoring.message import ScoreMessage
from backfill_tasks.scoring.parameters import Parameters
from backfill_tasks.scoring.sessions import Session
from backfill_tasks.scoring.work import Step, Work

#: A model with a price: 1,000 input tokens cost 50 millionths.
PAID = "gpt-5-nano"
BOUND = Usage(1_000, 0)
BOUND_COST = 50


class Obedient(Scorer):
    """Does what a lead's message says: `score 3`, `no score`, `retry`, `retry after 7`, `refuse`, `crash`, `hang`."""

    name = "obedient"

    def __init__(self, *, model: str | None = None, usage: Usage | None = None) -> None:
        self.seen: list[Conversation] = []
        self.most_at_once = 0
        self.before: Callable[[Conversation], None] = lambda _: None
        self._model = model
        self._usage = usage or Usage()
        self._at_once = 0

    @property
    def model(self) -> str | None:
        return self._model

    def upper_bound(self, conversation: Conversation) -> Usage:  # noqa: ARG002
        return BOUND

    async def score(self, conversation: Conversation) -> Score | Unscored:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self.seen.append(conversation)
            await asyncio.sleep(0)
            self.before(conversation)
            return await self._obey(conversation.lines[-1].text)
        finally:
            self._at_once -= 1

    async def _obey(self, said: str) -> Score | Unscored:
        match said.split():
            case ["score", number]:
                return Score(int(number), int(number), int(number), f"said {number}", self._usage)
            case ["no", "score"]:
                return Unscored("the model refused", self._usage)
            case ["retry"]:
                raise RetryableError("503 Service Unavailable")
            case ["retry", "after", seconds]:
                raise RetryableError("429 Too Many Requests", after=float(seconds), usage=self._usage)
            case ["postpone", seconds]:
                raise PostponedError("no room for another request", after=float(seconds))
            case ["refuse"]:
                raise RefusedError("401 Unauthorized", usage=Usage())
            case ["crash"]:
                raise ValueError(said)
            case ["hang"]:
                await asyncio.sleep(3_600)
        return Score(2, 2, 2, "said nothing", self._usage)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Scorer]:
        yield self


@dataclass
class Desk:
    """A session's work on a site. Messages wait in `waiting`, with their delays, until the test delivers them."""

    site: Site
    scorer: AnyScorer
    waiting: list[tuple[ScoreMessage, float]] = field(default_factory=list)

    @property
    def work(self) -> Work:
        return Work(self.site.engine, "public", {self.scorer.name: self.scorer}, self._send)

    def start(self, **parameters: Any) -> str:
        """Start a session with one slot, unless told otherwise."""
        return self.work.start(Parameters(self.scorer.name, **{"parallel": 1, **parameters}))

    def deliver(self) -> Step:
        """Deliver the oldest waiting message."""
        message, _ = self.waiting.pop(0)
        return self.work.step(message)

    def deliver_all(self) -> list[Step]:
        """Deliver messages until the session ends."""
        steps = []
        while self.waiting:
            steps.append(self.deliver())
        return steps

    def until_done(self, **parameters: Any) -> Session:
        """Do a whole session."""
        session = self.start(until_done=True, **parameters)
        self.deliver_all()
        return self.work.read(session)

    def add(self, *leads: str, says: str = "score 3", client: str = "client-1", **columns: Any) -> None:
        """Add leads that wrote a message, each with a PENDING job that is due."""
        host = self.site.host
        for lead in leads:
            host.add_leads(lead, inbound=0, clientId=client)
            host.add_message(f"{lead}/1", lead, body=says, direction="inbound", sentAt=NOON)
            self.add_job(lead, **{"clientId": client, **columns})

    def add_job(self, lead: str, status: str = "PENDING", **columns: Any) -> None:
        new = {"attempts": 0, "lockedAt": None, "lockedBy": None, "startedAt": None, "finishedAt": None}
        self.site.host.add_job(lead, status, **{**new, "lastError": None, **columns})

    def claim(self, most: int = 10, *, holder: str = "backfill:test") -> list[str]:
        """Claim jobs, and return their leads in the order of their ids."""
        with self.site.engine.begin() as connection:
            return sorted(job.lead for job in Claims("public", holder).claim(connection, most))

    def release(self) -> list[str]:
        with self.site.engine.begin() as connection:
            return sorted(claims.release(connection, "public"))

    def age_slots(self) -> None:
        """Make all slots look as if they had shown no life for a minute."""
        past = "now() - interval '1 min'"
        self.site.host.do(f"UPDATE backfill.scoring_slot SET beat_at = {past}, held_until = {past}")

    def job(self, lead: str) -> dict[str, Any]:
        found = self.site.host.job(lead)
        assert found is not None
        return found

    def _send(self, message: ScoreMessage, delay: float) -> None:
        self.waiting.append((message, delay))
