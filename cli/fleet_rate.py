"""The rate of all workers together, as commands speak of it."""

from backfill_tasks.cli.context import say
from backfill_tasks.engine.rate import Rate


def say_the_new_rate(rate: Rate | None, before: Rate | None) -> None:
    """Say which rate holds now, if one was set."""
    if rate is not None:
        say(f"The rate of all workers together is {rate}; it was {before}.")
