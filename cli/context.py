"""What a command needs of the outside: the settings, the connections, and errors turned into one line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import click
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

from backfill_tasks import settings
from backfill_tasks.client import Client
from backfill_tasks.engine import database
from backfill_tasks.errors import (
    BackfillError,
    CheckpointError,
    ConfigurationError,
    UnverifiedError,
    UsageError,
)
from backfill_tasks.escaping import one_line
from backfill_tasks.wiring import Parts

#: Exit statuses.
COMPLETE, FAILED, WRONG_USAGE, QUARANTINED, NOT_COMPLETE = range(5)

_INSUFFICIENT_PRIVILEGE = "42501"


@dataclass(frozen=True)
class Session:
    """The client of a command, made when it is first asked for."""

    @cached_property
    def settings(self) -> settings.Settings:
        """The settings."""
        return settings.load()

    @cached_property
    def client(self) -> Client:
        """The client."""
        return Client(self.settings)

    @property
    def parts(self) -> Parts:
        """The engine, with a database that answers."""
        return self.client.parts


def say(line: str = "") -> None:
    """A line for the operator, on standard error."""
    click.echo(line, err=True)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line on standard error and the right exit status, whatever is raised."""
    try:
        yield
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except click.Abort:
        say("backfill: stopped, nothing was started")
        sys.exit(NOT_COMPLETE)
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.ctx.get_help() if error.ctx else "see `backfill --help`")
        sys.exit(WRONG_USAGE)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"; see `{context.command_path} --help`" if context else ""
        say(f"backfill: {one_line(error.format_message().rstrip('.'))}{hint}")
        sys.exit(WRONG_USAGE)
    except BackfillError as error:
        say(f"backfill: {one_line(str(error))}")
        sys.exit(_status(error))
    except DBAPIError as error:
        failed = "failed" if database.is_transient(error) else "refused"
        say(f"backfill: the database {failed}: {database.reason(error)}{_advice(error)}")
        sys.exit(FAILED)
    except (RedisError, OperationalError) as error:
        say(f"backfill: Redis failed: {error}; see REDIS_URL, then go on with `backfill run --resume`")
        sys.exit(FAILED)
    except UnicodeError:
        say("backfill: an argument or a setting is not UTF-8 text: type it again, or see `backfill config`")
        sys.exit(WRONG_USAGE)
    except OSError as error:
        say(f"backfill: the output can't be written: {error.strerror}")
        # What Python has not written yet, it would try to write again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


def _status(error: BackfillError) -> int:
    if isinstance(error, UnverifiedError):
        return QUARANTINED
    return WRONG_USAGE if isinstance(error, UsageError | ConfigurationError | CheckpointError) else FAILED


def _advice(error: DBAPIError) -> str:
    if database.sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
        return database.advice(error)
    return "; `backfill doctor` says what to have a DBA grant"
