"""What a command needs of the outside: the settings, and the client."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from backfill_tasks.client import Client
    from backfill_tasks.settings import Settings
    from backfill_tasks.wiring import Parts

#: Exit statuses.
COMPLETE, FAILED, WRONG_USAGE, QUARANTINED, NOT_COMPLETE = range(5)


@dataclass(frozen=True)
class Session:
    """The client of a command, made when it is first asked for: a command's help does without."""

    @cached_property
    def settings(self) -> "Settings":
        """The settings."""
        from backfill_tasks import settings  # noqa: PLC0415  see the class

        return settings.load()

    @cached_property
    def client(self) -> "Client":
        """The client."""
        from backfill_tasks.client import Client  # noqa: PLC0415  see the class

        return Client(self.settings)

    @property
    def parts(self) -> "Parts":
        """The engine, with a database that answers."""
        return self.client.parts


def say(line: str = "") -> None:
    """A line for the operator, on standard error."""
    click.echo(line, err=True)
