"""Settings: their names, meanings, and values from the environment and an optional .env file."""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from backfill_tasks import redis_address
from backfill_tasks.errors import ConfigurationError
from backfill_tasks.options import RUN_OPTIONS, Number, Option, Whole, quoted

_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_RATE = re.compile(r"(?P<count>\d+(\.\d+)?)(/(?P<unit>[smh]))?", re.ASCII)
_MOST_RATE = 1_000_000
_SHORTEST_TOKEN = 16

#: The most digits read of a whole number, and the most characters of an invalid value repeated in a message.
_MOST_DIGITS = _MOST_REPEATED = 40

#: Variables with which Celery overrides celeryconfig.py. Its options (-b, --config) and BROKER_URL set them, too.
_BROKERS = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
_CELERYS_OWN = (*_BROKERS, "CELERY_RESULT_BACKEND", "CELERY_CONFIG_MODULE", "CELERY_LOADER")


def _text(value: str) -> str:
    return value


def _optional(value: str) -> str | None:
    return value or None


def _token(value: str) -> str | None:
    """Parse a secret for a request's header; errors repeat no part of it."""
    if value and (len(value) < _SHORTEST_TOKEN or not value.isascii() or not value.isprintable() or " " in value):
        raise ValueError(f"it must be {_SHORTEST_TOKEN} or more ASCII characters, with no space")
    return value or None


def _login(value: str) -> str | None:
    """Parse a user and password, as typed; errors repeat no part of them."""
    user, _, password = value.partition(":")
    if value and not (user and password and value.isprintable()):
        raise ValueError("it must look like user:password")
    return value or None


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", value):
        raise ValueError(f"{quoted(value)} is not a name of letters, digits, dots, hyphens and underscores")
    return value


def _model(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:/@+-]{1,200}", value):
        raise ValueError(f"{quoted(value)} is not a model's name")
    return value


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(f"{quoted(value)} is none of {', '.join(words)}")
        return value

    return parse


def _http_url(value: str) -> str:
    """Parse the URL of an HTTP API; errors repeat no part of it, because it may contain a password."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("it must look like https://host/v1")
    if parts.username is not None or parts.query or parts.fragment or not value.isprintable() or " " in value:
        raise ValueError("it must have no user, password, query or fragment: the key belongs in OPENAI_API_KEY")
    return value


def _redis_url(value: str) -> str:
    """Parse a Redis URL; errors repeat no part of it, because any part may belong to a password."""
    redis_address.parse(value)
    return value


def rate_limit(value: str) -> str | None:
    """Return a rate in Celery's notation, as written; None for "none".

    Raises:
        ValueError: it is not a rate. 0 isn't one.
    """
    if value == "none":
        return None
    match = _RATE.fullmatch(value)
    if match is None or not 0 < float(match["count"]) <= _MOST_RATE:
        raise ValueError(f"{quoted(value)} is not a rate: write 20/s, 600/m or 0.5/s, or none for no limit")
    return value


#: The path allowed after the host, by scheme: a database's name or number, or the path of a socket.
_DATABASE_NAME = re.compile(r"(/[\w.~%-]*)?", re.ASCII)
_DATABASE_NUMBER = re.compile(r"(/\d{0,6})?", re.ASCII)
_SOCKET_PATH = re.compile(r"(/[\w.~%-]+){2,}", re.ASCII)
_PATHS: Mapping[str, re.Pattern[str]] = {
    "postgres": _DATABASE_NAME,
    "postgresql": _DATABASE_NAME,
    "redis": _DATABASE_NUMBER,
    "rediss": _DATABASE_NUMBER,
    "unix": _SOCKET_PATH,
    "socket": _SOCKET_PATH,
    "redis+socket": _SOCKET_PATH,
}

#: One or more hosts, with ports. A user and a password before them prove that they are hosts.
_HOST = r"(\[[0-9A-Fa-f:.]+\]|[\w.%-]+)(:\d{1,5})?"
_HOSTS = re.compile(rf"({_HOST}(,{_HOST})*)?", re.ASCII)
#: A host recognizable by itself, and one only with a port or a database: `redis://hunter2` may contain a password.
_SURELY_A_HOST = re.compile(
    r"(localhost|\d{1,3}(\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+\]|([a-z0-9-]+\.)+[a-z]{2,})(:\d{1,5})?", re.ASCII
)
_MAYBE_A_HOST = re.compile(r"[a-z0-9_-]+(:\d{1,5})?", re.ASCII)


@dataclass(frozen=True)
class Variable:
    """One environment variable: its default (None: it is required), its meaning, and the parser of its text.

    `secret`: it is shown `masked`; `opaque`: no part of it is shown.
    """

    name: str
    default: str | None
    meaning: str
    parse: Callable[[str], object] = _text
    secret: bool = False
    opaque: bool = False

    def shown(self, given: str) -> str:
        """Return a value as it may be shown."""
        if not given:
            return self.default or "(not set)"
        return "***" if self.opaque else masked(given) if self.secret else given


def _variable(
    name: str,
    default: str | None,
    meaning: str,
    parse: Callable[[str], object] = _text,
    *,
    secret: bool = False,
    opaque: bool = False,
) -> Any:
    """Declare a setting as a field of `Settings`."""
    return field(metadata={"variable": Variable(name, default, meaning, parse, secret, opaque)})


@dataclass(frozen=True)
class Settings:
    """The settings of this process, each declared here. The unit of a time is in the variable's name or meaning.

    `defaults`: the environment's defaults for a run's options, by the option's name.
    """

    defaults: Mapping[str, Any]
    database_url: str | None = _variable(
        "DATABASE_URL", None, "the host's PostgreSQL; Prisma's own URL works as it is", secret=True
    )
    replica_url: str | None = _variable(
        "BACKFILL_REPLICA_URL",
        "",
        "a standby of that PostgreSQL, which `backfill verify --replica` reads from",
        _optional,
        secret=True,
    )
    redis_url: str = _variable(
        "REDIS_URL", "redis://127.0.0.1:6379/0", "Redis: the broker, and the live cursors", _redis_url, secret=True
    )
    rate_limit: str | None = _variable(
        "BACKFILL_RATE_LIMIT",
        "none",
        "pages of the whole fleet: 20/s, 600/m, 0.5/s, none; holds until `backfill rate` has set one",
        rate_limit,
    )
    drain_seconds: float | None = _variable(
        "BACKFILL_DRAIN_SECONDS",
        "60",
        "the host takes jobs out of its queue every so many seconds, on the full minute; ours come due just before, so"
        " that live ones go first; none: ours come due at once",
        Number(0.01, 86_400, off=True).parse,
    )
    drain_lead_seconds: float = _variable(
        "BACKFILL_DRAIN_LEAD_SECONDS",
        "5",
        "how many seconds before the host takes jobs ours come due",
        Number(0, 3600).parse,
    )
    pressure_seconds: float = _variable(
        "BACKFILL_PRESSURE_SECONDS",
        "5",
        "after how many seconds a page that waits for room or for pressure to pass asks again",
        Number(0.01, 600).parse,
    )
    max_replication_lag: float | None = _variable(
        "BACKFILL_MAX_REPLICATION_LAG",
        "30",
        "pressure: seconds that a standby may be behind; none: not asked",
        Number(0, 86_400, off=True).parse,
    )
    max_lock_waits: float | None = _variable(
        "BACKFILL_MAX_LOCK_WAITS",
        "5",
        "pressure: sessions of others that may wait for a lock; none: not asked",
        Number(0, 10_000, off=True).parse,
    )
    max_active_percent: float | None = _variable(
        "BACKFILL_MAX_ACTIVE_PERCENT",
        "80",
        "pressure: percent of max_connections that may be at work; none: not asked",
        Number(0, 100, off=True).parse,
    )
    max_transaction_age: float | None = _variable(
        "BACKFILL_MAX_TRANSACTION_AGE",
        "1800",
        "pressure: seconds that a transaction may be open; none: not asked",
        Number(0, 604_800, off=True).parse,
    )
    max_page_ms: float | None = _variable(
        "BACKFILL_MAX_PAGE_MS",
        "2000",
        "pressure: milliseconds that a page may take; after a longer one all rest as long; none: not asked",
        Number(1, 600_000, off=True).parse,
    )
    busy_limit: int | None = _variable(
        "BACKFILL_BUSY_LIMIT",
        "50",
        "pressure: while others are at work in the host's database, one page at a time, of so many leads at the most;"
        " none: not asked",
        Whole(1, 10_000, off=True).parse,
    )
    lock_timeout_ms: int = _variable(
        "BACKFILL_LOCK_TIMEOUT_MS",
        "500",
        "longest that a page waits for a lock; below PostgreSQL's deadlock_timeout, so that the host never loses",
        Whole(1, 60_000).parse,
    )
    statement_timeout_ms: int = _variable(
        "BACKFILL_STATEMENT_TIMEOUT_MS",
        "15000",
        "longest that one statement of a page takes",
        Whole(100, 600_000).parse,
    )
    page_retries: int = _variable(
        "BACKFILL_PAGE_RETRIES",
        "9",
        "times that a page is tried again after a passing database error, with waits of 1, 2, 4 … 60 s",
        Whole(0, 1000).parse,
    )
    standing_seconds: int = _variable(
        "BACKFILL_STANDING_SECONDS",
        "8",
        "a lane that has not moved for so long, and that no worker holds, is seeded again by the watchdog",
        Whole(1, 86_400).parse,
    )
    watchdog_seconds: int = _variable(
        "BACKFILL_WATCHDOG_SECONDS", "3", "how often beat sends the watchdog", Whole(1, 3600).parse
    )
    visibility_timeout: int = _variable(
        "BACKFILL_VISIBILITY_TIMEOUT",
        "3600",
        "seconds after which Redis gives a message that no worker acknowledged to another worker",
        Whole(60, 604_800).parse,
    )
    queue: str = _variable(
        "BACKFILL_QUEUE", "backfill", "the queue's name; one per environment where a Redis is shared", _name
    )
    metrics_token: str | None = _variable(
        "BACKFILL_METRICS_TOKEN",
        "",
        "the bearer token that `backfill metrics` asks for",
        _token,
        secret=True,
        opaque=True,
    )
    metrics_login: str | None = _variable(
        "BACKFILL_METRICS_LOGIN",
        "",
        "user:password, the login that `backfill metrics` asks for (basic authentication)",
        _login,
        secret=True,
        opaque=True,
    )

    openai_api_key: str | None = _variable(
        "OPENAI_API_KEY",
        "",
        "the key of the scorer `openai`; a server that asks for none takes any text",
        _optional,
        secret=True,
        opaque=True,
    )
    openai_base_url: str = _variable(
        "OPENAI_BASE_URL",
        "https://api.openai.com/v1",
        "the API of the scorer `openai`: OpenAI's, or a compatible server's",
        _http_url,
    )
    openai_api: str = _variable(
        "BACKFILL_OPENAI_API",
        "responses",
        "the API that the scorer `openai` calls there: responses, or chat (Chat Completions, which most compatible"
        " servers have)",
        _one_of("responses", "chat"),
    )
    openai_model: str = _variable("BACKFILL_OPENAI_MODEL", "gpt-5-nano", "the model of the scorer `openai`", _model)
    openai_effort: str = _variable(
        "BACKFILL_OPENAI_EFFORT",
        "low",
        "the model's reasoning effort: minimal, low, medium, high; none: not sent, for models that don't reason",
        _one_of("none", "minimal", "low", "medium", "high"),
    )
    openai_timeout: float = _variable(
        "BACKFILL_OPENAI_TIMEOUT", "20", "the longest that one request may take, in seconds", Number(0.1, 60).parse
    )
    openai_max_output_tokens: int = _variable(
        "BACKFILL_OPENAI_MAX_OUTPUT_TOKENS",
        "1000",
        "the most tokens of one answer, reasoning included",
        Whole(16, 100_000).parse,
    )
    openai_requests_per_minute: int | None = _variable(
        "BACKFILL_OPENAI_REQUESTS_PER_MINUTE",
        "500",
        "requests of the whole fleet per minute; set your account's limit, or less; none: no limit",
        Whole(1, 1_000_000, off=True).parse,
    )
    openai_tokens_per_minute: int | None = _variable(
        "BACKFILL_OPENAI_TOKENS_PER_MINUTE",
        "200000",
        "tokens of the whole fleet per minute, in and out; none: no limit",
        Whole(1_000, 1_000_000_000, off=True).parse,
    )
    prompt_file: str | None = _variable(
        "BACKFILL_PROMPT_FILE", "", "a file that replaces the prompt of the scorer `openai`", _optional
    )
    prices_file: str | None = _variable(
        "BACKFILL_PRICES_FILE", "", "a file that replaces the price list of the models", _optional
    )

    def queue_of_format(self, version: int) -> str:
        """Return the name of the queue for messages of one format; messages of other formats have their own."""
        return f"{self.queue}.v{version}"

    @property
    def watchdog_queue(self) -> str:
        """The name of the queue for the watchdog's tasks, which beat sends."""
        return f"{self.queue}.watchdog"

    @property
    def scoring_queue(self) -> str:
        """The name of the queue for batches of `backfill work`: only workers started with `-Q` for it take them."""
        return f"{self.queue}.scoring"

    def required_database_url(self) -> str:
        """Return the database's URL.

        Raises:
            ConfigurationError: it is not set.
        """
        if self.database_url is None:
            raise ConfigurationError(
                "DATABASE_URL is not set: set it in the environment or in .env, e.g. postgresql://user:password@host:5432/db"
            )
        return self.database_url


def _of_option(option: Option, name: str) -> Variable:
    return Variable(name, option.shown, option.setting, option.kind.parse)


#: The variables: the settings of a process, and the defaults of a run's options.
_OWN: Mapping[str, Variable] = {
    each.name: each.metadata["variable"] for each in fields(Settings) if "variable" in each.metadata
}
_OF_OPTIONS: Mapping[str, Variable] = {
    name: _of_option(each, each.variable) for name, each in RUN_OPTIONS.items() if each.variable
}
VARIABLES = (*_OWN.values(), *_OF_OPTIONS.values())


def environment(directory: Path | None = None) -> dict[str, str]:
    """Return the environment, over the .env file of a directory (default: the working directory) if there is one.

    Raises:
        ConfigurationError: the file can't be read; no part of it is guessed.
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
        ConfigurationError: a value is invalid, or a name is unknown; the text contains no secret value.
    """
    variables = environment() if source is None else source
    refuse_unknown(variables)
    _refuse_second_configuration(variables)
    own: dict[str, Any] = {name: value(variable, variables) for name, variable in _OWN.items()}
    return Settings(**own, defaults={name: value(variable, variables) for name, variable in _OF_OPTIONS.items()})


def value(variable: Variable, variables: Mapping[str, str]) -> object:
    """Return a variable's value, or its default.

    Raises:
        ConfigurationError: the value is invalid.
    """
    text = variables.get(variable.name, "").strip() or variable.default
    try:
        return None if text is None else variable.parse(text)
    except ValueError as error:
        raise ConfigurationError(f"{variable.name}: {error}") from None


def refuse_unknown(variables: Mapping[str, str]) -> None:
    """Raise ConfigurationError for an unknown BACKFILL_ variable: with a typo, the default would apply unnoticed."""
    names = [variable.name for variable in VARIABLES]
    for name in sorted(variables):
        if name.startswith("BACKFILL_") and name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
            raise ConfigurationError(f"there is no setting {name}: is it {near}? `backfill config` lists all")


def _refuse_second_configuration(variables: Mapping[str, str]) -> None:
    """Raise ConfigurationError for a variable with which Celery would use another Redis or configuration.

    Celery gives them precedence over celeryconfig.py: messages would go to a Redis that neither the cursors nor the
    commands use.
    """
    redis_url = value(next(each for each in VARIABLES if each.name == "REDIS_URL"), variables)
    for name in _CELERYS_OWN:
        given = variables.get(name, "").strip()
        if not given or (name in _BROKERS and given == redis_url):
            continue
        instead = "REDIS_URL alone names the Redis" if name in _BROKERS else "celeryconfig.py alone configures Celery"
        raise ConfigurationError(f"{name} is set, and Celery would follow it: {instead}; unset {name}")


def masked(url: str) -> str:
    """Return a URL with its password and query masked, and every part that may be a misplaced password.

    A part is shown if its neighbors prove what it is: a user beside its password, a host beside a password, a port or a
    database, a database beside a host. If the host isn't proved, only the scheme is shown. If the parts don't follow
    the grammar, nothing is shown: `postgresql:PASSWORD` is a path.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    login, at, host = parts.netloc.rpartition("@")
    path = _PATHS.get(parts.scheme)
    if path is None or not url.lower().startswith(f"{parts.scheme}://") or not path.fullmatch(parts.path):
        return "***"
    if "@" in login + parts.query or "#" in url or "\\" in url or not url.isprintable() or not _HOSTS.fullmatch(host):
        return "***"
    user, _, password = login.partition(":")
    if not (not host if path is _SOCKET_PATH else password or _is_a_host(host, parts.path)):
        return f"{parts.scheme}://***"
    shown = f"{user}:***@" if password else "***@" if at else ""
    return f"{parts.scheme}://{shown}{host}{parts.path}{'?***' if parts.query else ''}"


def _is_a_host(text: str, path: str) -> bool:
    """Return whether a text without a password before it is a host's name or address, not itself a password."""
    if _SURELY_A_HOST.fullmatch(text):
        return True
    return _MAYBE_A_HOST.fullmatch(text) is not None and (":" in text or path.strip("/") != "")
