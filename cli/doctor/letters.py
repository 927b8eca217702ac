"""Checks the dead letters."""

from collections.abc import Iterator

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.cli.letters import letters_of


def dead(context: CommandContext) -> Iterator[Finding]:
    """Check that no message has been parked as a dead letter."""
    number = letters_of(context).count()
    if not number:
        yield Finding("fine", "there are no dead letters")
        return
    messages = "1 message is" if number == 1 else f"{number:,} messages are"
    yield Finding(
        "look",
        f"{messages} in the dead letters: no worker could process them",
        "Another program may be writing to this Redis. `backfill dead-letters` shows them with the reason,"
        " `backfill dead-letters --clear` removes them.",
    )
