"""Settings: what they are called, what they mean, and their values from the environment and an optional .env file."""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from backfill_tasks.errors import ConfigurationError

_RATE = re.compile(r"(?P<count>\d+(\.\d+)?)(/(?P<unit>[smh]))?", re.ASCII)

_REDIS_FORM = (
    "it must look like redis://:password@host:6379/0 (or rediss://…, unix:///path); in the password percent-encode the"
    " characters / ? # @ % and :"
)


def _text(value: str) -> str:
    return value


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not (value.isascii() and value.isdecimal() and least <= int(value) <= most):
            raise ValueError(f"{value!r} is not a whole number from {least} to {most}")
        return int(value)

    return parse


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", value):
        raise ValueError(f"{value!r} is not a name of letters, digits, dots, hyphens and underscores")
    return value


def _redis_url(value: str) -> str:
    """Nothing of the value is repeated in an error: any part of it may be one of a password."""
    parts = urlsplit(value)
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(_REDIS_FORM) from None
    if re.search(r"%(?![0-9A-Fa-f]{2})", value):
        raise ValueError(_REDIS_FORM)
    if parts.scheme == "unix" and parts.path:
        return value
    database = re.fullmatch(r"/?|/\d+", parts.path, re.ASCII)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or not database or parts.netloc.count("@") > 1:
        raise ValueError(_REDIS_FORM)
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

    @property
    def field(self) -> str:
        """The name of its field in `Settings`."""
        return self.name.removeprefix("BACKFILL_").lower()


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
    Variable("BACKFILL_LANES", "2", "lanes of a run, where --lanes does not say", _whole_number(1, 64)),
    Variable(
        "BACKFILL_LOCK_TIMEOUT_MS",
        "500",
        "longest that a page waits for a lock; below PostgreSQL's deadlock_timeout, so that the host never loses",
        _whole_number(1, 60000),
    ),
    Variable(
        "BACKFILL_STATEMENT_TIMEOUT_MS",
        "15000",
        "longest that one statement of a page takes",
        _whole_number(100, 600000),
    ),
    Variable(
        "BACKFILL_PAGE_RETRIES",
        "9",
        "times that a page is tried again after a passing database error, with waits of 1, 2, 4 … 60 s",
        _whole_number(0, 1000),
    ),
    Variable(
        "BACKFILL_STANDING_SECONDS",
        "60",
        "a lane that has not moved for so long, and that no worker holds, is seeded again by the watchdog",
        _whole_number(1, 86400),
    ),
    Variable("BACKFILL_WATCHDOG_SECONDS", "15", "how often beat sends the watchdog", _whole_number(1, 3600)),
    Variable(
        "BACKFILL_VISIBILITY_TIMEOUT",
        "3600",
        "seconds after which Redis gives a message that no worker acknowledged to another worker",
        _whole_number(60, 604_800),
    ),
    Variable("BACKFILL_QUEUE", "backfill", "the queue's name; one per environment where a Redis is shared", _name),
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
    """The process's environment over the .env file of a directory (default: the working directory), if there is one.

    Raises:
        ConfigurationError: the file can't be read; nothing in it is guessed at.
    """
    return {**_from_file((directory or Path.cwd()) / ".env"), **os.environ}


def _from_file(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"the file .env can't be read: {why}") from None
    for binding in parse_stream(StringIO(text)):
        if binding.error:
            blank = len(binding.original.string) - len(binding.original.string.lstrip())
            line = binding.original.line + binding.original.string[:blank].count("\n")
            raise ConfigurationError(f"line {line} of the file .env can't be read: write NAME=value")
    return {name: value for name, value in dotenv_values(stream=StringIO(text)).items() if value is not None}


def load(source: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from a mapping of variables (default: `environment()`).

    Raises:
        ConfigurationError: a value can't be read, or a name is nobody's; the text never has a secret value.
    """
    variables = environment() if source is None else source
    refuse_unknown(variables)
    values = {variable.field: value(variable, variables) for variable in VARIABLES}
    return Settings(**values)  # type: ignore[arg-type]  # each variable's parser returns its field's type


def value(variable: Variable, variables: Mapping[str, str]) -> object:
    """A variable's value, or its default's.

    Raises:
        ConfigurationError: it can't be read.
    """
    text = variables.get(variable.name, "").strip() or variable.default
    try:
        return None if text is None else variable.parse(text)
    except ValueError as error:
        raise ConfigurationError(f"{variable.name}: {error}") from None


def refuse_unknown(variables: Mapping[str, str]) -> None:
    """Raise ConfigurationError for a BACKFILL_ variable that means nothing: a slip would mean a default."""
    names = [variable.name for variable in VARIABLES]
    for name in sorted(variables):
        if name.startswith("BACKFILL_") and name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
            raise ConfigurationError(f"there is no setting {name}: is it {near}? `backfill config` lists all")


def masked(url: str) -> str:
    """A URL as it may be shown: the password and everything in the query replaced."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "***"
    if not parts.scheme or "@" in parts.path + parts.query + parts.fragment or parts.netloc.count("@") > 1:
        return "***"
    user = f"{parts.username or ''}:***@" if parts.password else f"{parts.username}@" if parts.username else ""
    query = "***" if parts.query else ""
    return urlunsplit((parts.scheme, f"{user}{parts.hostname or ''}{port}", parts.path, query, ""))
