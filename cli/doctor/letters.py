"""Checks the dead letters."""

from collections.abc import Iterator

from backfill_tasks.cli.context import Session
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.cli.letters import letters_of


def dead(session: Session) -> Iterator[Finding]:
    """Check that no message has been parked as a dead letter."""
    number = letters_of(session).count()
    if not number:
        yield Finding("fine", "no message was parked that no worker could do")
        return
    messages = "1 message is" if number == 1 else f"{number:,} messages are"
    yield Finding(
        "look",
        f"{messages} in the dead letters: no worker could do them",
        "`backfill dead-letters` shows them and why, `backfill dead-letters --clear` removes them. Find out who else"
        " writes to this Redis.",
    )
