"""Messages about the rate of all workers together."""

from backfill_tasks.cli.context import say
from backfill_tasks.engine.rate import Rate


def say_the_new_rate(rate: Rate | None, before: Rate | None) -> None:
    """Report the new rate and the one it replaces; do nothing if no rate was set."""
    if rate is not None:
        say(f"The rate of all workers together is now {rate}; it was {before}.")
