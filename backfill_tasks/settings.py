"""Settings: their names, meanings, and values from the environment and an optional .env file."""

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from backfill_tasks import redis_address
from backfill_tasks.errors import ConfigurationError
from backfill_tasks.kinds import Number, Whole, quoted
from backfill_tasks.options import RUN_OPTIONS, Option

_RATE = re.compile(r"(?P<count>\d+(\.\d+)?)(/(?P<unit>[smh]))?", re.ASCII)
_RATE_SECONDS: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600}
_MOST_RATE = 1_000_000
_SHORTEST_TOKEN = 16

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
        raise ValueError(f"it must be {_SHORTEST_TOKEN} or more ASCII characters without spaces")
    return value or None


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", value):
        raise ValueError(f"{quoted(value)} is not a name: use up to 100 letters, digits, dots, hyphens and underscores")
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
        ValueError: see `rate_interval`.
    """
    return value if rate_interval(value) else None


def rate_interval(value: str) -> float:
    """Return the seconds between two pages of a rate in Celery's notation; 0 for "none".

    Raises:
        ValueError: it is not a rate. 0 isn't one.
    """
    if value == "none":
        return 0.0
    match = _RATE.fullmatch(value)
    if match is None or not 0 < float(match["count"]) <= _MOST_RATE:
        raise ValueError(f"{quoted(value)} is not a rate: write 20/s, 600/m or 0.5/s, or none for no limit")
    return _RATE_SECONDS[match["unit"] or "s"] / float(match["count"])


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

    `defaults`: the environment's defaults for the options of every run, by the option's name. `variables`: the
    environment itself, in which the options of plug-ins find theirs.
    """

    defaults: Mapping[str, Any]
    variables: Mapping[str, str] = field(repr=False, compare=False)
    database_url: str | None = _variable(
        "DATABASE_URL", None, "the host's PostgreSQL; Prisma's own URL works unchanged", secret=True
    )
    replica_url: str | None = _variable(
        "BACKFILL_REPLICA_URL",
        "",
        "a standby of that PostgreSQL, for `backfill verify --replica`",
        _optional,
        secret=True,
    )
    redis_url: str = _variable(
        "REDIS_URL",
        "redis://127.0.0.1:6379/0",
        "the Redis with the queue and the live cursors",
        _redis_url,
        secret=True,
    )
    rate_limit: str | None = _variable(
        "BACKFILL_RATE_LIMIT",
        "none",
        "rate of pages of all workers together, until `backfill rate` sets another: 20/s, 600/m, 0.5/s or none",
        rate_limit,
    )
    drain_seconds: float | None = _variable(
        "BACKFILL_DRAIN_SECONDS",
        "60",
        "seconds between two drains of the host's queue, counted from the full minute; our jobs come due just before a"
        " drain, so that live jobs go first; none: our jobs come due at once",
        Number(0.01, 86_400, off=True).parse,
    )
    drain_lead_seconds: float = _variable(
        "BACKFILL_DRAIN_LEAD_SECONDS",
        "5",
        "how many seconds before a drain our jobs come due",
        Number(0, 3600).parse,
    )
    pressure_seconds: float = _variable(
        "BACKFILL_PRESSURE_SECONDS",
        "5",
        "seconds until a page that waits for room in the queue or for pressure checks again",
        Number(0.01, 600).parse,
    )
    max_replication_lag: float | None = _variable(
        "BACKFILL_MAX_REPLICATION_LAG",
        "30",
        "pressure: pages wait while a standby lags by more seconds; none: no limit",
        Number(0, 86_400, off=True).parse,
    )
    max_lock_waits: float | None = _variable(
        "BACKFILL_MAX_LOCK_WAITS",
        "5",
        "pressure: pages wait while more sessions of other programs wait for locks; none: no limit",
        Number(0, 10_000, off=True).parse,
    )
    max_active_percent: float | None = _variable(
        "BACKFILL_MAX_ACTIVE_PERCENT",
        "80",
        "pressure: pages wait while a higher percentage of max_connections is active; none: no limit",
        Number(0, 100, off=True).parse,
    )
    max_transaction_age: float | None = _variable(
        "BACKFILL_MAX_TRANSACTION_AGE",
        "1800",
        "pressure: pages wait while a transaction has been open for more seconds; none: no limit",
        Number(0, 604_800, off=True).parse,
    )
    max_page_ms: float | None = _variable(
        "BACKFILL_MAX_PAGE_MS",
        "2000",
        "pressure: after a page that took more milliseconds, all pages wait as long as it took; none: no limit",
        Number(1, 600_000, off=True).parse,
    )
    busy_limit: int | None = _variable(
        "BACKFILL_BUSY_LIMIT",
        "50",
        "pressure: the largest page, in items, while other sessions are active in the host's database; then only one"
        " page runs at a time; none: no limit",
        Whole(1, 10_000, off=True).parse,
    )
    lock_timeout_ms: int = _variable(
        "BACKFILL_LOCK_TIMEOUT_MS",
        "500",
        "the longest wait of a page for a lock; keep it below PostgreSQL's deadlock_timeout, so that a deadlock always"
        " ends our page, never the host's transaction",
        Whole(1, 60_000).parse,
    )
    statement_timeout_ms: int = _variable(
        "BACKFILL_STATEMENT_TIMEOUT_MS",
        "15000",
        "the longest time that one statement of a page may take",
        Whole(100, 600_000).parse,
    )
    page_retries: int = _variable(
        "BACKFILL_PAGE_RETRIES",
        "9",
        "how often a page is retried after a transient database error, with waits of 1, 2, 4 … 60 s",
        Whole(0, 1000).parse,
    )
    standing_seconds: int = _variable(
        "BACKFILL_STANDING_SECONDS",
        "8",
        "seconds after which the watchdog reseeds a lane that has stalled and whose message no worker has",
        Whole(1, 86_400).parse,
    )
    watchdog_seconds: int = _variable(
        "BACKFILL_WATCHDOG_SECONDS", "3", "seconds between two passes of the watchdog", Whole(1, 3600).parse
    )
    visibility_timeout: int = _variable(
        "BACKFILL_VISIBILITY_TIMEOUT",
        "3600",
        "seconds until Redis redelivers a message that a worker took and didn't acknowledge",
        Whole(60, 604_800).parse,
    )
    queue: str = _variable(
        "BACKFILL_QUEUE", "backfill", "the queue's name; environments that share a Redis need different names", _name
    )
    metrics_token: str | None = _variable(
        "BACKFILL_METRICS_TOKEN",
        "",
        "the bearer token that `backfill metrics` requires",
        _token,
        secret=True,
        opaque=True,
    )

    cron_secret: str | None = _variable(
        "BACKFILL_CRON_SECRET",
        "",
        "the secret of the host's cron route (its CRON_SECRET), which workers send for `backfill drain`",
        _optional,
        secret=True,
        opaque=True,
    )
    cron_secret_file: str | None = _variable(
        "BACKFILL_CRON_SECRET_FILE",
        "",
        "the path of a file with that secret, instead of the variable",
        _optional,
    )
    cron_host: str | None = _variable(
        "BACKFILL_CRON_HOST",
        "",
        "the only host to which workers send that secret, such as app.example.com; not set: that of the drain's URL",
        _optional,
    )
    cron_call_seconds: int = _variable(
        "BACKFILL_CRON_CALL_SECONDS",
        "250",
        "the longest call of the host's cron route, in seconds; the host works on one for up to 240 s",
        Whole(1, 3600).parse,
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

    @property
    def drain_queue(self) -> str:
        """The name of the queue for beat's messages about the drain."""
        return f"{self.queue}.drain"

    def defaults_with(self, own: Iterable[Option]) -> dict[str, Any]:
        """Return the environment's defaults for a run's options, including a backfill's own, by name.

        Raises:
            ConfigurationError: a variable of one of these options has an invalid value.
        """
        found = {each.name: default_of(each, self.variables) for each in own if each.variable is not None}
        return {**self.defaults, **found}

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


def variable_of(option: Option) -> Variable:
    """Return the variable that changes an option's default; the option must have one."""
    return Variable(str(option.variable), option.shown, option.setting or option.help, option.kind.parse)


#: The variables: the settings of a process, and the defaults of a run's options.
_OWN: Mapping[str, Variable] = {
    each.name: each.metadata["variable"] for each in fields(Settings) if "variable" in each.metadata
}
_OF_OPTIONS: Mapping[str, Variable] = {name: variable_of(each) for name, each in RUN_OPTIONS.items() if each.variable}
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
    defaults = {name: value(variable, variables) for name, variable in _OF_OPTIONS.items()}
    return Settings(**own, defaults=defaults, variables=variables)


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


def default_of(option: Option, variables: Mapping[str, str]) -> Any:
    """Return an option's default: the value of its variable, or else the declared one.

    Raises:
        ConfigurationError: the variable's value is invalid.
    """
    is_set = variables.get(option.variable or "", "").strip()
    return value(variable_of(option), variables) if is_set else option.default


def refuse_unknown(variables: Mapping[str, str]) -> None:
    """Raise ConfigurationError for an unknown BACKFILL_ variable: with a typo, the default would apply unnoticed."""
    names = [variable.name for variable in VARIABLES]
    for name in sorted(variables):
        if name.startswith("BACKFILL_") and name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
            raise ConfigurationError(f"there is no setting {name}. Did you mean {near}? `backfill config` lists all")


def why_not_for_a_plugin(name: str) -> str | None:
    """Return why a plug-in's option can't have an environment variable of this name; None: it can."""
    if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
        return "write it in capital letters, digits and underscores"
    if name in {each.name for each in VARIABLES} or name.startswith(("BACKFILL_", "CELERY_")):
        return "BACKFILL_…, CELERY_…, DATABASE_URL and REDIS_URL are taken: begin it with a prefix of the package's own"
    return None


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
        raise ConfigurationError(f"{name} is set, and Celery would use it, but {instead}: unset {name}")


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
