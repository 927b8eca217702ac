"""Forecasts what scoring leads here will cost, from a sample of their real conversations. Writes nothing.

The sample is random among the leads that would be scored, and grows until its error is small. It is drawn from random
blocks of a large table, not from the whole of it; few enough leads of a block are read that their likeness doesn't
matter. Input tokens are
estimated from the texts, and corrected by the ratio of counted to estimated tokens of earlier answers; output tokens
are those of earlier answers, on average. Before a model's first answer, both are assumptions, and the interval is wide.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, pstdev
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine import schema as ledger_schema
from backfill_tasks.engine.database import begin_read_only, is_transient, quoted
from backfill_tasks.errors import UsageError
from backfill_tasks.scoring import prices, reading
from backfill_tasks.scoring.claims import Job
from backfill_tasks.scoring.contract import AnyScorer, Conversation, Usage
from backfill_tasks.scoring.jobs import DISQUALIFYING
from backfill_tasks.scoring.statements import file

#: How many blocks of the table of leads are read for a sample at first: 128 MB, as PostgreSQL is usually built.
_BLOCKS = 16_384

#: How many leads are drawn, how many conversations are read at once, and how many at most.
_CANDIDATES, _CHUNK, _MOST = 40_000, 100, 4_000

#: The sample is large enough once its 95 % interval is within this share of the mean.
_PRECISION = 0.03

#: The factor of a 95 % interval.
_NORMAL = 1.96

#: How far assumed tokens may be off, as shares: input by its estimate, output by assumption.
_ASSUMED_INPUT, _ASSUMED_OUTPUT = 0.20, 0.60

#: How far measured tokens may be off: a share, and one that shrinks with the root of the number of answers.
_MEASURED, _MEASURED_SPREAD = 0.03, 0.6

#: How many of a model's latest batches count.
_BATCHES = 200

#: How many tokens a price is read off for: prices are rounded up to whole millionths.
_MILLION = 1_000_000


@dataclass(frozen=True)
class Measured:
    """What a model's latest answers have used; `answered` = 0: there are none.

    `ratio`: the counted input tokens for each estimated one. `output`: the output tokens of an answer.
    """

    answered: int
    ratio: float
    output: float | None


@dataclass(frozen=True)
class CostForecast:
    """What scoring will cost, in millionths.

    Attributes:
        scorer: the scorer's name.
        model: the model that is paid for; None: scoring costs nothing.
        leads: how many leads would be scored.
        sample: how many conversations were read.
        cost: the expected cost, between `low` and `high` in 19 of 20 cases.
        input_tokens, output_tokens: of one lead, on average.
        answered: how many earlier answers of the model the tokens are measured by; 0: they are assumed.
    """

    scorer: str
    model: str | None
    leads: int
    sample: int = 0
    cost: int = 0
    low: int = 0
    high: int = 0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    answered: int = 0


@dataclass(frozen=True)
class Choice:
    """Which leads a run would enqueue. `after`: only those with a greater id."""

    client_ids: Sequence[str] | None
    rescore_all: bool
    after: str | None


@dataclass(frozen=True)
class Forecaster:
    """Forecasts the cost of a scorer. `statement_ms`: the time-out of each statement."""

    engine: Engine
    schema: str
    scorer: AnyScorer
    statement_ms: int

    def forecast(self, choice: Choice, leads: int) -> CostForecast:
        """CostForecast what scoring so many of the chosen leads will cost.

        Raises:
            UsageError: the scorer costs money and doesn't say what it takes.
            ConfigurationError: its model has no price.
        """
        model = self.scorer.model
        if model is None or not leads:
            return CostForecast(self.scorer.name, model, leads)
        measured = self._measured(model)
        given: list[float] = []
        made: list[float] = []
        for usage in self._estimates(choice, leads):
            given.append(usage.input_tokens * measured.ratio)
            made.append(usage.output_tokens if measured.output is None else measured.output)
            if len(given) % _CHUNK == 0 and _margin(self._costs(given, made), leads) <= _PRECISION:
                break
        if not given:
            return CostForecast(self.scorer.name, model, leads)
        return self._of(given, made, leads, measured)

    def _of(self, given: Sequence[float], made: Sequence[float], leads: int, measured: Measured) -> CostForecast:
        margin = _margin(self._costs(given, made), leads)
        input_price, output_price = self._prices()
        read, written = leads * fmean(given) * input_price, leads * fmean(made) * output_price
        off_input = off_output = _MEASURED + _MEASURED_SPREAD / sqrt(max(1, measured.answered))
        if not measured.answered:
            off_input, off_output = _ASSUMED_INPUT, _ASSUMED_OUTPUT
        off = read * (off_input + margin) + written * (off_output + margin)
        return CostForecast(
            scorer=self.scorer.name,
            model=self.scorer.model,
            leads=leads,
            sample=len(given),
            cost=round(read + written),
            low=round(max(0.0, read + written - off)),
            high=round(read + written + off),
            input_tokens=fmean(given),
            output_tokens=fmean(made),
            answered=measured.answered,
        )

    def _costs(self, given: Sequence[float], made: Sequence[float]) -> list[float]:
        input_price, output_price = self._prices()
        return [one * input_price + other * output_price for one, other in zip(given, made, strict=True)]

    def _prices(self) -> tuple[float, float]:
        """Return the price of an input and of an output token, in millionths."""
        batch = self.scorer.has_batch_price
        of = [Usage(_MILLION, 0), Usage(0, _MILLION)]
        given, made = (prices.cost(self.scorer.model, each, batch=batch) / _MILLION for each in of)
        return given, made

    def _estimates(self, choice: Choice, leads: int) -> Iterator[Usage]:
        """Yield the estimates for a random sample of the chosen leads, in random order."""
        jobs = self._sample(choice, leads)
        for start in range(0, len(jobs), _CHUNK):
            with self._reading() as connection:
                found = reading.read(connection, self.schema, jobs[start : start + _CHUNK])
            for each in found.values():
                if isinstance(each, Conversation):
                    yield self._estimate(each)

    def _sample(self, choice: Choice, leads: int) -> list[Job]:
        """Draw from as many blocks as hold enough leads. If few of them are chosen, read the whole table in its order.

        If that takes longer than the time-out, the few have to do.
        """
        percent = min(100.0, 100 * _CANDIDATES / leads, 100 * _BLOCKS / max(1, self._blocks()))
        drawn = self._drawn(choice, percent)
        if len(drawn) >= _CHUNK or percent == 100.0:  # noqa: PLR2004  all of it
            return drawn
        try:
            return self._drawn(choice, 100.0)
        except DBAPIError as error:
            if not is_transient(error):
                raise
            return drawn

    def _drawn(self, choice: Choice, percent: float) -> list[Job]:
        with self._reading() as connection:
            rows = connection.execute(file("sample", self.schema), {**_values(choice), "percent": percent})
            return [Job(row.lead, row.lead, row.client) for row in rows]

    def _blocks(self) -> int:
        """Return the size of the table of leads."""
        query = "SELECT pg_relation_size(CAST(:leads AS regclass)) / CAST(current_setting('block_size') AS bigint)"
        with self._reading() as connection:
            return int(connection.execute(text(query), {"leads": f'{quoted(self.schema)}."Lead"'}).scalar_one())

    def _estimate(self, conversation: Conversation) -> Usage:
        usage = self.scorer.estimate(conversation)
        if usage is None:
            raise UsageError(f"the scorer {self.scorer.name} doesn't say what a lead takes: its cost can't be forecast")
        return usage

    def _measured(self, model: str) -> Measured:
        with self._reading() as connection:
            if ledger_schema.version(connection) != ledger_schema.latest():
                return Measured(0, 1.0, None)
            row = connection.execute(file("measured"), {"model": model, "batches": _BATCHES}).one()
        if not row.answered:
            return Measured(0, 1.0, None)
        return Measured(row.answered, row.input_tokens / row.estimated_tokens, row.output_tokens / row.answered)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            begin_read_only(connection, statement_ms=self.statement_ms)
            yield connection


def _values(choice: Choice) -> dict[str, Any]:
    return {
        "client_ids": None if choice.client_ids is None else list(choice.client_ids),
        "rescore_all": choice.rescore_all,
        "after": choice.after,
        "disqualifying": list(DISQUALIFYING),
        "candidates": _CANDIDATES,
        "most": _MOST,
    }


def _margin(costs: Sequence[float], leads: int) -> float:
    """Return half the 95 % interval of the mean, as a share of it, for a sample without replacement."""
    number = len(costs)
    if number < 2:  # noqa: PLR2004  one value has no spread
        return 1.0 if leads > number else 0.0
    left = max(0.0, 1 - number / max(leads, number))
    mean = fmean(costs)
    return _NORMAL * pstdev(costs) / sqrt(number) * sqrt(left) / mean if mean else 0.0
