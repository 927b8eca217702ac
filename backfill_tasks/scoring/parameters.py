"""The parameters of a scoring session, and the checks of what a caller gives."""

from dataclasses import dataclass
from decimal import Decimal

from backfill_tasks.errors import UsageError

#: The scorer used if no name is given.
DEFAULT_SCORER = "rules"

#: The limits of a session's options.
MOST_IN_A_BATCH = 5_000
MOST_PARALLEL = 64
MOST_MONEY = 1_000_000

#: Millionths in one unit of money.
UNIT = 1_000_000


@dataclass(frozen=True)
class Parameters:
    """The parameters of a session.

    Attributes:
        scorer: the scorer's name.
        batch: how many jobs a batch claims.
        concurrency: how many of a batch's requests are in flight at once.
        parallel: how many batches are in progress at once: the number of slots.
        max_spend: the budget in millionths; None: no budget.
        until_done: whether the session ends once every job of ours has ended.
    """

    scorer: str
    batch: int = 256
    concurrency: int = 64
    parallel: int = 2
    max_spend: int | None = None
    until_done: bool = False

    def require_valid(self) -> None:
        """Reject numbers outside their range.

        Raises:
            UsageError: one of them is.
        """
        require_whole("batch", self.batch, MOST_IN_A_BATCH)
        require_whole("concurrency", self.concurrency, MOST_IN_A_BATCH)
        require_whole("parallel", self.parallel, MOST_PARALLEL)


def require_whole(name: str, value: object, most: int) -> None:
    """Reject a value that isn't a whole number from 1 to `most`.

    Raises:
        UsageError: it isn't.
    """
    if type(value) is not int or not 1 <= value <= most:
        raise UsageError(f"{name}: {value!r} is not a whole number from 1 to {most}")


def budget(amount: Decimal | int | None) -> int | None:
    """Return a budget in millionths, rounded down; None: there is none.

    A float is refused: it may not be what was typed.

    Raises:
        UsageError: it is no amount of money.
    """
    if amount is None:
        return None
    if isinstance(amount, bool) or not isinstance(amount, Decimal | int) or not 0 < amount < MOST_MONEY:
        raise UsageError(f"max_spend: {amount!r} is not an amount between 0 and {MOST_MONEY:,}")
    return int(amount * UNIT)
