"""What a command needs of the outside: the settings, the connections, and errors turned into one line."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import click
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from backfill_tasks import settings
from backfill_tasks.engine import database, ledger, redis_client, schema
from backfill_tasks.engine.chain import SendError
from backfill_tasks.engine.model import PageMessage, Run, RunId, RunState
from backfill_tasks.errors import (
    BackfillError,
    CheckpointError,
    ConfigurationError,
    UnverifiedError,
    UsageError,
)
from backfill_tasks.escaping import one_line
from backfill_tasks.wiring import Parts, assemble

#: Exit statuses.
COMPLETE, FAILED, WRONG_USAGE, QUARANTINED, NOT_COMPLETE = range(5)

_INSUFFICIENT_PRIVILEGE = "42501"

#: How often a command tries to reach Redis before it says that it can't, with growing waits: a few seconds in all.
_PATIENCE = 5


def _send(message: PageMessage, delay: float) -> None:
    from backfill_tasks.worker.tasks import send  # noqa: PLC0415  Celery takes half a second to import; most commands do without

    send(message, delay)


@dataclass(frozen=True)
class Session:
    """The settings and the connected engine, each made when first asked for."""

    @cached_property
    def settings(self) -> settings.Settings:
        """The settings."""
        return settings.load()

    @cached_property
    def parts(self) -> Parts:
        """The engine, with a database that answers."""
        parts = assemble(self.settings, _send, patience=_PATIENCE)
        with database.reachable(parts.address), parts.engine.begin() as connection:
            connection.execute(text("SELECT 1"))
        return parts

    def require_redis(self) -> None:
        """Raise UnreachableError unless Redis answers."""
        with redis_client.reachable(self.settings.redis_url):
            redis_client.connect(self.settings.redis_url, patience=_PATIENCE).ping()

    def require_ledger(self, *, to_write: bool = False) -> None:
        """Raise LedgerError unless the ledger is there, of the right version, and open to what is to be done."""
        with self.parts.engine.begin() as connection:
            schema.require(connection)
            if to_write:
                schema.require_rights(connection)

    def require_host(self, run: Run) -> None:
        """Raise HostError unless this role sees, and may do, all that a run takes."""
        with self.parts.engine.begin() as connection:
            self.parts.backfills[run.parameters.backfill].check_host(connection, apply=True)

    def run(self, run: str | None) -> Run:
        """The run with this id, or the newest.

        Raises:
            UsageError: there is none.
        """
        self.require_ledger()
        if run is not None:
            return self.parts.runs.read(RunId(run))
        with self.parts.engine.begin() as connection:
            newest = ledger.newest_run(connection)
        if newest is None:
            raise UsageError("there is no run yet: `backfill run --apply` starts one")
        return self.parts.runs.read(newest)

    def newest(self, states: Sequence[RunState], backfill: str | None = None) -> RunId | None:
        """The newest run in one of these states, of this backfill or of any; None also where there is no ledger yet.

        Raises:
            LedgerError: the ledger is newer than this package, or this role may not read it.
        """
        with self.parts.engine.begin() as connection:
            found = schema.version(connection)
            schema.refuse_newer(found)
            return ledger.newest_run(connection, states=states, backfill=backfill) if found else None


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
    except (RedisError, OperationalError, SendError) as error:
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
