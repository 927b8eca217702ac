"""The operator's orders for the drain, and the options of `backfill drain`."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, ClassVar
from urllib.parse import urlsplit

from backfill_tasks.errors import UsageError
from backfill_tasks.kinds import Flag, Kind, Number, Whole, quoted
from backfill_tasks.options import Option

_DURATION = re.compile(r"(?P<count>\d+(\.\d+)?)(?P<unit>[smh])", re.ASCII)
_PERCENT = re.compile(r"(?P<count>\d+(\.\d+)?)%", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600}

#: The most digits read of a number.
_MOST_DIGITS = 40

_LONGEST_URL = 2_000


@dataclass(frozen=True)
class Duration(Kind):
    """A duration in seconds, typed with its unit: 10s, 2m, 1h."""

    least: float
    most: float
    metavar: ClassVar[str] = "TIME"

    @property
    def values(self) -> str:
        """The range."""
        return f"{self.least:g}s to {self.most:g}s; 2m and 1h are durations, too"

    def parse(self, text: str) -> float:
        """Parse a number with a unit. A bare number is refused: its unit would be a guess."""
        match = _DURATION.fullmatch(text[:_MOST_DIGITS])
        if match is None or len(text) > _MOST_DIGITS:
            raise ValueError(f"{quoted(text)} is not a duration: write 10s, 2m or 1h")
        return self.check(float(match["count"]) * _UNITS[match["unit"]])

    def check(self, value: Any) -> float:
        """Return the value if it is a number of seconds within the range."""
        if type(value) not in (int, float) or not self.least <= value <= self.most:
            raise ValueError(f"{quoted(value)} is not a number of seconds from {self.least:g} to {self.most:g}")
        return float(value)


@dataclass(frozen=True)
class Percentage(Kind):
    """A share from 0 to 1, typed as a percentage; `none`: None."""

    metavar: ClassVar[str] = "N%"

    @property
    def values(self) -> str:
        """The range."""
        return "0% to 100%, or none"

    def parse(self, text: str) -> float | None:
        """Parse a number with a percent sign. A bare number is refused: 0.2 could mean either."""
        if text == "none":
            return None
        match = _PERCENT.fullmatch(text[:_MOST_DIGITS])
        if match is None or len(text) > _MOST_DIGITS:
            raise ValueError(f"{quoted(text)} is not a percentage: write 20%, or none")
        return self.check(float(match["count"]) / 100)

    def check(self, value: Any) -> float | None:
        """Return the value if it is a share."""
        if value is None:
            return None
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise ValueError(f"{quoted(value)} is not a share from 0 to 1 (0% to 100%), or none")
        return float(value)


EVERY = Option("every", Duration(1, 3600), "Start a call every TIME (default: 10s).", default=10.0)
PARALLEL = Option("parallel", Whole(1, 20), "Have at most N calls in flight at once (default: 2).", default=2)
UNTIL_DONE = Option(
    "until_done", Flag(), "End once no job of ours waits or is at work, and no run enqueues more.", default=False
)
MAX_FAILURE_RATE = Option(
    "max_failure_rate",
    Percentage(),
    "Pause while more than N% of the last 50 jobs fail; none: don't ask (default: 20%).",
    default=0.2,
)
MAX_LIVE_WAIT = Option(
    "max_live_wait",
    Number(0, 604_800),
    "Pause while a due job of any other kind has waited for more than N seconds; 0: don't ask"
    " (default: 180, or BACKFILL_MAX_LIVE_WAIT).",
    default=180.0,
)

#: The options of `backfill drain --url`, in display order.
OPTIONS = (EVERY, PARALLEL, UNTIL_DONE, MAX_FAILURE_RATE, MAX_LIVE_WAIT)


@dataclass(frozen=True)
class Orders:
    """What the operator wants: the URL of the host's cron route, the pace, and when to pause or end.

    Attributes:
        url: the cron route. It never contains a secret: see `require_url`.
        every: a call starts every so many seconds.
        parallel: the most calls in flight.
        until_done: end once nothing of ours is left.
        max_failure_rate: pause above this share of failed attempts; None: not asked.
        max_live_wait: pause while a live job has waited longer, in seconds; 0: not asked.
    """

    url: str
    every: float
    parallel: int
    until_done: bool
    max_failure_rate: float | None
    max_live_wait: float

    @classmethod
    def given(cls, url: str, *, allow_http: bool, **options: Any) -> "Orders":
        """Return the orders with these options; omitted ones get their defaults.

        Raises:
            UsageError: the URL or an option is invalid, or there is no such option.
        """
        require_url(url, allow_http=allow_http)
        known = {each.name: each for each in OPTIONS}
        unknown = sorted(options.keys() - known.keys())
        if unknown:
            raise UsageError(f"the drain has no option {', '.join(unknown)}: it has {', '.join(known)}")
        defaults = {each.name: each.default for each in OPTIONS}
        try:
            return cls(url, **{name: known[name].check(value) for name, value in {**defaults, **options}.items()})
        except ValueError as error:
            raise UsageError(str(error)) from None


def require_url(url: str, *, allow_http: bool) -> None:
    """Accept the URL of a cron route that can be stored and shown, and to which a secret may be sent.

    Raises:
        UsageError: it can't. The text repeats no part of a URL that may contain a secret.
    """
    if not (url.isascii() and url.isprintable() and len(url) <= _LONGEST_URL) or " " in url or "\\" in url:
        raise UsageError("the URL is not one: write https://host/api/cron/background-jobs")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise UsageError("the URL is not one: write https://host/api/cron/background-jobs") from None
    if "@" in parts.netloc or parts.query or parts.fragment or "?" in url or "#" in url:
        raise UsageError(
            "the URL may have no user, password, query or fragment, because it is stored and shown: the secret belongs"
            " in BACKFILL_CRON_SECRET or BACKFILL_CRON_SECRET_FILE, where the workers run"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError("the URL must begin with https:// and name a host: https://host/api/cron/background-jobs")
    if parts.scheme == "http" and not (allow_http or _is_loopback(host)):
        raise UsageError(
            f"http:// would send the secret to {host} in clear: write https://, or --allow-http if the network is yours"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
