"""Settings: what they are called, what they mean, and their values from the environment and an optional .env file."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from dotenv import dotenv_values

from backfill_tasks.errors import ConfigurationError

_RATE = re.compile(r"(?P<count>\d+(\.\d+)?)(/(?P<unit>[smh]))?")


def _text(value: str) -> str:
    return value


def _positive_integer(value: str) -> int:
    if not value.isdecimal() or not 0 < int(value) <= 86_400_000:  # noqa: PLR2004  a day in milliseconds
        raise ValueError(f"{value!r} is not a whole number from 1 to 86400000")
    return int(value)


def _redis_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"redis", "rediss", "unix"} or not (parts.hostname or parts.path):
        raise ValueError("it must look like redis://:password@host:6379/0 (or rediss://…, unix:///path)")
    return value


def _rate_limit(value: str) -> str | None:
    if value in {"", "none"}:
        return None
    match = _RATE.fullmatch(value)
    if match is None or float(match["count"]) == 0:
        raise ValueError(f"{value!r} is not a rate: write 20/s, 600/m or 0.5/s, or none for no limit")
    return value


@dataclass(frozen=True)
class Variable:
    """One environment variable: its default (None: it has to be set), what it means, and how its text is read."""

    name: str
    default: str | None
    meaning: str
    parse: Callable[[str], object] = _text
    secret: bool = False


VARIABLES = (
    Variable("DATABASE_URL", None, "the host's PostgreSQL; Prisma's own URL works as it is", secret=True),
    Variable(
        "REDIS_URL",
        "redis://127.0.0.1:6379/0",
        "Redis: the broker, and the live cursors",
        _redis_url,
        secret=True,
    ),
    Variable(
        "BACKFILL_RATE_LIMIT",
        "none",
        "pages per worker: 20/s, 600/m, 0.5/s, none (Celery's rate_limit)",
        _rate_limit,
    ),
    Variable("BACKFILL_LANES", "2", "lanes of a run, where --lanes does not say", _positive_integer),
    Variable(
        "BACKFILL_LOCK_TIMEOUT_MS",
        "1000",
        "longest that a page waits for a lock of the host's",
        _positive_integer,
    ),
    Variable(
        "BACKFILL_STATEMENT_TIMEOUT_MS",
        "15000",
        "longest that one statement of a page takes",
        _positive_integer,
    ),
    Variable(
        "BACKFILL_PAGE_RETRIES",
        "9",
        "times that a page is tried again after a passing database error, with waits of 1, 2, 4 … 60 s",
        _positive_integer,
    ),
    Variable(
        "BACKFILL_STANDING_SECONDS",
        "60",
        "a lane that has not moved for so long, and that no worker holds, is seeded again by the watchdog",
        _positive_integer,
    ),
    Variable("BACKFILL_WATCHDOG_SECONDS", "15", "how often beat sends the watchdog", _positive_integer),
    Variable(
        "BACKFILL_VISIBILITY_TIMEOUT",
        "3600",
        "seconds after which Redis gives a message that no worker acknowledged to another worker",
        _positive_integer,
    ),
    Variable("BACKFILL_QUEUE", "backfill", "the queue's name; one per environment where a Redis is shared"),
)


@dataclass(frozen=True)
class Settings:
    """The settings of this process. Times are in the unit that the variable's name or meaning says."""

    database_url: str | None
    redis_url: str
    rate_limit: str | None
    lanes: int
    lock_timeout_ms: int
    statement_timeout_ms: int
    page_retries: int
    standing_seconds: int
    watchdog_seconds: int
    visibility_timeout: int
    queue: str

    def required_database_url(self) -> str:
        """The database's URL.

        Raises:
            ConfigurationError: it is not set.
        """
        if self.database_url is None:
            raise ConfigurationError(
                "DATABASE_URL is not set: set it in the environment or in .env, e.g. postgresql://user:password@host:5432/db"
            )
        return self.database_url


def environment(directory: Path | None = None) -> dict[str, str]:
    """The process's environment over the .env file of a directory (default: the working directory), if there is one."""
    path = (directory or Path.cwd()) / ".env"
    from_file = {name: value for name, value in dotenv_values(path).items() if value is not None}
    return {**from_file, **os.environ}


def load(source: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from a mapping of variables (default: `environment()`).

    Raises:
        ConfigurationError: a value can't be read; the text names the variable, never a secret value.
    """
    variables = environment() if source is None else source
    values: dict[str, object] = {}
    for variable in VARIABLES:
        text = variables.get(variable.name, "").strip() or variable.default
        field = variable.name.removeprefix("BACKFILL_").lower()
        try:
            values[field] = None if text is None else variable.parse(text)
        except ValueError as error:
            raise ConfigurationError(f"{variable.name}: {error}") from None
    return Settings(**values)  # type: ignore[arg-type]  # each variable's parser returns its field's type


def masked(url: str) -> str:
    """A URL as it may be shown: the password and everything in the query replaced."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "***"
    if not parts.scheme:
        return "***"
    user = f"{parts.username or ''}:***@" if parts.password else f"{parts.username}@" if parts.username else ""
    query = "***" if parts.query else ""
    return urlunsplit((parts.scheme, f"{user}{parts.hostname or ''}{port}", parts.path, query, ""))
