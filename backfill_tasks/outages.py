"""What a caller does while the database or Redis is away: wait for it, or name the run that will go on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine import redis_client
from backfill_tasks.engine.chain import SendError
from backfill_tasks.engine.database import is_transient
from backfill_tasks.engine.model import RunId
from backfill_tasks.errors import SeedingError

T = TypeVar("T")

#: The wait between two attempts, in seconds.
_AGAIN_SECONDS = 0.25


def ride_out(
    read: Callable[[], T], wait: Callable[[float], bool], unreachable: Callable[[DBAPIError], None]
) -> T | None:
    """Read, retrying while the database doesn't answer; return None if `wait` says to stop.

    Args:
        read: reads from the database.
        wait: waits for the given number of seconds, and returns whether to stop.
        unreachable: called once per outage.

    Raises:
        DBAPIError: the database refused, which doesn't pass.
    """
    away = False
    while True:
        try:
            return read()
        except DBAPIError as error:
            if not is_transient(error):
                raise
            if not away:
                unreachable(error)
            away = True
        if wait(_AGAIN_SECONDS):
            return None


def sleep(seconds: float) -> bool:
    """Wait, for `ride_out`, and never stop."""
    time.sleep(seconds)
    return False


@contextmanager
def seeding(run: RunId) -> Iterator[None]:
    """Name the run in an error that occurs once the run is in the ledger.

    Raises:
        SeedingError: Redis failed.
    """
    try:
        yield
    except (redis_client.RedisError, SendError) as error:
        raise SeedingError(run, str(error)) from error
