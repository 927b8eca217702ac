"""The connection to the standby in BACKFILL_REPLICA_URL, from which `verify --replica` reads."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text

from backfill_tasks.engine.database import connect, parse_url, reachable
from backfill_tasks.engine.replica import Replica
from backfill_tasks.errors import ConfigurationError, UnreachableError
from backfill_tasks.settings import Settings

SETTING = "BACKFILL_REPLICA_URL"


@contextmanager
def standby(settings: Settings, primary: Engine) -> Iterator[Replica]:
    """Connect to the standby and check that it answers.

    Raises:
        ConfigurationError: the setting is missing or can't be read.
        UnreachableError: the standby doesn't answer, or refuses this role.
    """
    if settings.replica_url is None:
        raise ConfigurationError(f"{SETTING} is not set: set it to a standby's URL, or remove --replica")
    with named_in_errors():
        address = parse_url(settings.replica_url)
    engine = connect(address, statement_ms=settings.statement_timeout_ms)
    try:
        with named_in_errors(), reachable(address), engine.begin() as connection:
            connection.execute(text("SELECT 1"))
        yield Replica(engine, str(address), primary, settings.statement_timeout_ms)
    finally:
        engine.dispose()


@contextmanager
def named_in_errors() -> Iterator[None]:
    """Replace DATABASE_URL with the name of this setting in errors about a URL."""
    try:
        yield
    except (ConfigurationError, UnreachableError) as error:
        raise type(error)(str(error).replace("DATABASE_URL", SETTING)) from None
