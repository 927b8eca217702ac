"""Turn errors into one line on standard error and an exit status."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from backfill_tasks.cli.context import FAILED, NOT_COMPLETE, QUARANTINED, WRONG_USAGE, say

_INSUFFICIENT_PRIVILEGE = "42501"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an expected error into one line on standard error and end the process with its exit status.

    A bug propagates with its traceback.
    """
    try:
        yield
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except click.Abort:
        say("backfill: stopped before a run was started")
        sys.exit(NOT_COMPLETE)
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.ctx.get_help() if error.ctx else "see `backfill --help`")
        sys.exit(WRONG_USAGE)
    except click.ClickException as error:
        sys.exit(_wrong_usage(error))
    except UnicodeError:
        say("backfill: an argument or a setting is not UTF-8 text: type it again, or check `backfill config`")
        sys.exit(WRONG_USAGE)
    except OSError as error:
        say(f"backfill: the output can't be written: {error.strerror}")
        # Otherwise Python would try to flush its buffer again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        status = _failed(error)
        if status is None:
            raise
        sys.exit(status)


def _wrong_usage(error: click.ClickException) -> int:
    from backfill_tasks.escaping import one_line  # noqa: PLC0415  see _failed

    context = getattr(error, "ctx", None)
    hint = f"; see `{context.command_path} --help`" if context else ""
    say(f"backfill: {one_line(error.format_message().rstrip('.'))}{hint}")
    return WRONG_USAGE


def _failed(error: Exception) -> int | None:
    """Say what failed and return the exit status; return None for a bug.

    The imports are local because most commands end without an error.
    """
    from kombu.exceptions import OperationalError  # noqa: PLC0415
    from redis.exceptions import RedisError  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    from backfill_tasks.engine import database  # noqa: PLC0415
    from backfill_tasks.engine.chain import SendError  # noqa: PLC0415
    from backfill_tasks.errors import (  # noqa: PLC0415
        BackfillError,
        CheckpointError,
        ConfigurationError,
        UnverifiedError,
        UsageError,
    )
    from backfill_tasks.escaping import one_line  # noqa: PLC0415

    match error:
        case UnverifiedError():
            status = QUARANTINED
        case UsageError() | ConfigurationError() | CheckpointError():
            status = WRONG_USAGE
        case BackfillError():
            status = FAILED
        case DBAPIError():
            failed = "failed" if database.is_transient(error) else "refused"
            advice = database.advice(error)
            if database.sqlstate(error) == _INSUFFICIENT_PRIVILEGE:
                advice = "; `backfill doctor` prints the GRANT that a DBA must run"
            say(f"backfill: the database {failed}: {database.reason(error)}{advice}")
            return FAILED
        case RedisError() | OperationalError() | SendError():
            say(f"backfill: Redis failed: {error}. Check REDIS_URL, then continue with `backfill run --resume`")
            return FAILED
        case _:
            return None
    say(f"backfill: {one_line(_in_flags(error))}")
    return status


def _in_flags(error: Exception) -> str:
    """Return an error's text, with the flag that solves the problem."""
    from backfill_tasks import errors  # noqa: PLC0415  see _failed

    match error:
        case errors.OverlapError():
            return f"{error}, or start it anyway with --force"
        case errors.DamagedCheckpointError():
            return f"{error}. Remove --state-file to continue from the ledger, or start with --cursor"
        case errors.DryRunCheckpointError():
            return f"{error}. Remove --resume and --state-file to start from the beginning"
        case errors.StandbyError() | errors.UnverifiedError():
            return f"{error}, or remove --replica"
    return str(error)
