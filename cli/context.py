"""What every command needs: the settings and the client."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from backfill_tasks.client import Client
    from backfill_tasks.settings import Settings
    from backfill_tasks.wiring import Parts

#: The commands' exit statuses.
COMPLETE, FAILED, WRONG_USAGE, QUARANTINED, NOT_COMPLETE = range(5)


@dataclass(frozen=True)
class CommandContext:
    """A command's settings and client, created on first use: `--help` needs neither."""

    @cached_property
    def settings(self) -> "Settings":
        """Return the settings."""
        from backfill_tasks import settings  # noqa: PLC0415  see the class

        return settings.load()

    @cached_property
    def client(self) -> "Client":
        """Return the client."""
        from backfill_tasks.client import Client  # noqa: PLC0415  see the class

        return Client(self.settings)

    @property
    def parts(self) -> "Parts":
        """Return the engine; its database has answered."""
        return self.client.parts


def say(line: str = "") -> None:
    """Print a line for the operator on standard error."""
    click.echo(line, err=True)
