"""Compares a scorer with the scores that leads already have. It writes nothing, neither to the host nor to the ledger.

It runs in one process, so the budget needs no reservation: a request is sent only if its upper bound fits beside what
all requests before it cost.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from sqlalchemy import Connection, Engine

from backfill_tasks.scoring import prices, reading
from backfill_tasks.scoring.batch import Answer, Batch, Pulse
from backfill_tasks.scoring.claims import Job
from backfill_tasks.scoring.contract import HIGHEST, LOWEST, Conversation, Scorer
from backfill_tasks.scoring.statements import file, prepare

#: How many conversations are in memory at once.
_CHUNK = 256


@dataclass(frozen=True)
class Pair:
    """A lead's existing overall score and the scorer's; None: it gave none."""

    client: str
    existing: int
    new: int | None


@dataclass(frozen=True)
class Agreement:
    """How far a scorer agrees with existing overall scores. `client`: the workspace; None: all of them."""

    client: str | None
    compared: int
    exact: int
    within_one: int
    unscored: int


@dataclass(frozen=True)
class Comparison:
    """A finished comparison.

    Attributes:
        pairs: every compared lead.
        spent: the cost in millionths; upper bounds where the usage is unknown.
        stopped: why leads of the sample were left out; None: none were.
    """

    pairs: Sequence[Pair]
    spent: int = 0
    stopped: str | None = None

    @property
    def agreements(self) -> list[Agreement]:
        """The agreement for each workspace, and last for all of them."""
        clients = sorted({pair.client for pair in self.pairs})
        each = [_agreement(client, [pair for pair in self.pairs if pair.client == client]) for client in clients]
        return [*each, _agreement(None, self.pairs)]


@dataclass(frozen=True)
class Comparer:
    """Compares. `each`: the most leads of one workspace and one score; `max_spend`: the budget in millionths."""

    engine: Engine
    schema: str
    scorer: Scorer
    each: int
    concurrency: int
    max_spend: int | None

    def compare(self) -> Comparison:
        """Score a sample of the scored leads, and return both scores of each."""
        with self.engine.begin() as connection:
            sample = self._sample(connection)
        pairs: list[Pair] = []
        spent, stopped = 0, None
        for chunk in _chunks(sample):
            found, cost, stopped = self._chunk(chunk, spent)
            pairs += found
            spent += cost
            if stopped is not None:
                break
        return Comparison(pairs, spent, stopped)

    def _sample(self, connection: Connection) -> list[tuple[Job, int]]:
        prepare(connection)
        values = {"lowest": LOWEST, "highest": HIGHEST, "each": self.each}
        rows = connection.execute(file("scored", self.schema), values)
        return [(Job(row.lead, row.lead, row.client), row.overall) for row in rows]

    def _chunk(self, chunk: Sequence[tuple[Job, int]], spent: int) -> tuple[list[Pair], int, str | None]:
        """Return the pairs of some leads, what they cost, and why the comparison can't go on."""
        with self.engine.begin() as connection:
            read = reading.read(connection, self.schema, [job for job, _ in chunk])
        wanted = [each for each in read.values() if isinstance(each, Conversation)]
        bounds = [prices.cost(self.scorer.model, self.scorer.upper_bound(each)) for each in wanted]
        fitting = len(wanted)
        if self.max_spend is not None:
            fitting = sum(total <= self.max_spend for total in accumulate(bounds, initial=spent)) - 1
        batch = Batch(self.scorer, wanted[:fitting], concurrency=self.concurrency, beat=lambda _: Pulse(going_on=True))
        answers = batch.run() if fitting > 0 else []
        existing = {job.id: (job.client, overall) for job, overall in chunk}
        pairs = [
            Pair(*existing[answer.result.job], answer.result.score.overall if answer.result.score else None)
            for answer in answers
            if answer.result.kind in {"scored", "unchanged"}
        ]
        costs = dict(zip((each.job for each in wanted), bounds, strict=True))
        stopped = batch.refusal or (batch.failure if batch.tripped or not pairs else None)
        if fitting < len(wanted):
            stopped = stopped or "the budget doesn't cover another request"
        return pairs, sum(self._cost(answer, costs[answer.result.job]) for answer in answers), stopped

    def _cost(self, answer: Answer, bound: int) -> int:
        if not answer.sent:
            return 0
        return bound if answer.usage is None else prices.cost(self.scorer.model, answer.usage)


def _agreement(client: str | None, pairs: Sequence[Pair]) -> Agreement:
    away = [abs(pair.existing - pair.new) for pair in pairs if pair.new is not None]
    return Agreement(client, len(pairs), away.count(0), sum(each <= 1 for each in away), len(pairs) - len(away))


def _chunks(sample: Sequence[tuple[Job, int]]) -> Iterator[Sequence[tuple[Job, int]]]:
    for start in range(0, len(sample), _CHUNK):
        yield sample[start : start + _CHUNK]
