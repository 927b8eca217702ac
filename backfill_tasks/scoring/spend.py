"""The budget: each request's upper bound is reserved in the ledger before it is sent, and settled afterwards.

Money is in whole millionths of the price list's currency. A reservation is committed before its requests are sent, and
a killed worker's stays counted, so no kill, retry or number of workers exceeds the budget.

Weakness: it holds as far as the scorer's upper bounds do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from backfill_tasks.scoring.contract import Usage
from backfill_tasks.scoring.message import ScoreMessage
from backfill_tasks.scoring.parameters import UNIT
from backfill_tasks.scoring.statements import file


@dataclass(frozen=True)
class Bill:
    """What a batch's requests cost.

    Attributes:
        spent: what they cost, and `unknown` of it is an upper bound.
        usage: the tokens of the `answered` requests, whose usage is known.
        estimated: how many input tokens were estimated for those.
    """

    spent: int
    unknown: int
    usage: Usage
    answered: int = 0
    estimated: int = 0


def shown(amount: int) -> str:
    """Return an amount of millionths as an operator reads it: at least two decimals."""
    whole, fraction = divmod(abs(amount), UNIT)
    decimals = f"{fraction:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' * (amount < 0)}{whole:,}.{decimals}"


def reserve(
    connection: Connection, message: ScoreMessage, model: str, costs: Sequence[int], *, holder: str | None = None
) -> int:
    """Reserve the costs of requests, in order, and return how many of them fit into the budget.

    `holder`: what lockedBy says of their jobs; default: the batch itself.

    None fits once the session is no longer running.
    """
    values = {
        "session": message.session,
        "slot": message.slot,
        "generation": message.generation,
        "holder": holder or message.holder,
        "model": model,
        "costs": list(costs),
    }
    return int(connection.execute(file("reserve"), values).scalar_one())


def settle(connection: Connection, holder: str, bill: Bill) -> None:
    """Replace a batch's reservation by what its requests cost."""
    values = {
        "holder": holder,
        "spent": bill.spent,
        "unknown": bill.unknown,
        "input_tokens": bill.usage.input_tokens,
        "output_tokens": bill.usage.output_tokens,
        "answered": bill.answered,
        "estimated": bill.estimated,
    }
    connection.execute(file("settle"), values)


def any_in_flight(connection: Connection, session: str, *, stale_seconds: float) -> bool:
    """Return whether a living batch of the session holds a reservation, whose settlement may leave room."""
    values = {"session": session, "stale_seconds": stale_seconds}
    return bool(connection.execute(file("in_flight"), values).scalar_one())
