"""What the host's cron route answers. No answer is trusted: it may come from a proxy, a login page or a bug."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import urlsplit

from backfill_tasks.escaping import shown

Result = Literal[
    "worked",
    "dispatched",
    "unauthorized",
    "not found",
    "redirected",
    "refused",
    "other host",
    "rate limited",
    "unavailable",
    "server error",
    "timed out",
    "unreachable",
    "malformed",
]
"""The result of a call, in words that never change: the ledger, JSON and metrics use them."""

#: The most characters of the host's own words that are kept, and the greatest count that is believed.
_MOST_SHOWN = 200
_MOST_JOBS = 1_000_000

#: The longest Retry-After that is obeyed, in seconds: a day.
_LONGEST_RETRY_AFTER = 86_400.0

#: Words with an at sign, such as e-mail addresses: an error of the host's may repeat values of its rows.
_ADDRESS = re.compile(r"\S+@\S+")

#: The statuses with a meaning of their own; the others are judged by their class.
_FAILURES: Mapping[HTTPStatus, Result] = {
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "unauthorized",
    HTTPStatus.NOT_FOUND: "not found",
    HTTPStatus.METHOD_NOT_ALLOWED: "not found",
    HTTPStatus.GONE: "not found",
    HTTPStatus.REQUEST_TIMEOUT: "timed out",
    HTTPStatus.GATEWAY_TIMEOUT: "timed out",
    HTTPStatus.TOO_EARLY: "unavailable",
    HTTPStatus.TOO_MANY_REQUESTS: "rate limited",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}

_DISPATCHES = frozenset({"dispatch-only", "dispatch-duplicate-suppressed"})


@dataclass(frozen=True)
class Counts:
    """The jobs of a call, of all types, as the host counts them. `remaining`: how many are still due, if it says so."""

    processed: int
    succeeded: int
    failed: int
    retried: int
    skipped: int = 0
    released: int = 0
    remaining: int | None = None

    @property
    def spoiled(self) -> int:
        """How many attempts failed, whether the host tries again or has given up; at most `processed`."""
        return min(self.failed + self.retried, self.processed)

    def __str__(self) -> str:
        words = f"{self.processed:,} processed, {self.succeeded:,} succeeded, {self.failed:,} failed"
        more = "" if self.remaining is None else f", {self.remaining:,} remaining"
        return f"{words}, {self.retried:,} retried, {self.skipped:,} skipped{more}"


@dataclass(frozen=True)
class Answer:
    """The answer to a call: its result, one line for the operator, and the jobs if the host worked on some.

    `retry_after`: for how many seconds the host wants to be left alone; None: it didn't say.
    """

    result: Result
    shown: str
    counts: Counts | None = None
    retry_after: float | None = None


@dataclass(frozen=True)
class Response:
    """An HTTP response as received: its body is complete unless `cut`."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cut: bool = False


def parse(response: Response, *, now: datetime | None = None) -> Answer:
    """Return what a response means. Never raises."""
    content = _json(response)
    result = _failure(response.status)
    if result is None:
        return _of_success(response, content)
    said = f"HTTP {response.status}"
    if result == "redirected":
        return Answer(result, f"{said} to {_place(response.headers.get('location', ''))}")
    retry_after = _retry_after(response.headers.get("retry-after"), now or datetime.now(UTC))
    return Answer(result, _with_message(said, content), retry_after=retry_after)


def printable(text: str) -> str:
    """Return foreign words on one line: cut, escaped, and without e-mail addresses."""
    return shown(_ADDRESS.sub("…@…", text[: 10 * _MOST_SHOWN]), _MOST_SHOWN)


def _failure(status: int) -> Result | None:
    """Return what a status means that isn't a success; None for a success."""
    if status in _FAILURES:
        return _FAILURES[HTTPStatus(status)]
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "server error"
    if status >= HTTPStatus.BAD_REQUEST:
        return "refused"
    return "redirected" if status >= HTTPStatus.MULTIPLE_CHOICES else None


def _of_success(response: Response, content: Any) -> Answer:
    """Return what a 2xx response means: jobs, or an event that was dispatched."""
    if not isinstance(content, dict):
        return _malformed(f"over {len(response.body):,} bytes" if response.cut else "it is no JSON object")
    mode = content.get("mode", "inline")
    if isinstance(mode, str) and mode in _DISPATCHES:
        return Answer("dispatched", f"mode {mode}")
    if content.get("success") is not True:
        return Answer("server error", _with_message(f"HTTP {response.status}, and success is not true", content))
    if not (isinstance(mode, str) and mode.startswith("inline")):
        return _malformed(f"its mode is {printable(str(mode))}")
    counts, wrong = _counts(content)
    if counts is None:
        return _malformed(f"{wrong} is not a count")
    return Answer("worked", str(counts), counts)


def _malformed(why: str) -> Answer:
    return Answer("malformed", f"this is not an answer of the host's runner: {why}")


def _counts(content: Mapping[str, Any]) -> tuple[Counts | None, str]:
    """Return the counts, or None and the name of the first one that is missing or can't be one."""
    names = {"released": "releasedStale"}
    optional = {"skipped", "released", "remaining"}
    found: dict[str, int] = {}
    for each in fields(Counts):
        name = names.get(each.name, each.name)
        value = content.get(name)
        if value is None and each.name in optional:
            continue
        if type(value) is not int or not 0 <= value <= _MOST_JOBS:
            return None, name
        found[each.name] = value
    return Counts(**found), ""


def _place(location: str) -> str:
    """Return where a redirect leads, without the parts of its URL that may contain a secret."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return "another place"
    return (
        printable(f"{parts.scheme and parts.scheme + '://'}{parts.netloc.rpartition('@')[2]}{parts.path}") or "nowhere"
    )


def _json(response: Response) -> Any:
    """Return the body's JSON value; None if it isn't JSON."""
    try:
        return None if response.cut else json.loads(response.body)
    except (ValueError, RecursionError):
        return None


def _with_message(head: str, content: Any) -> str:
    """Append the host's message, which may contain anything."""
    if not isinstance(content, dict):
        return head
    said = next((content[name] for name in ("message", "error") if isinstance(content.get(name), str)), "")
    return f"{head}: {printable(said)}" if said else head


def _retry_after(value: str | None, now: datetime) -> float | None:
    """Return the seconds of a Retry-After header, in either of its forms; None if it has neither. RFC 9110, 10.2.3."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:10]), _LONGEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER)
