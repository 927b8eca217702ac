"""How long a server asks its clients to wait: Retry-After and the x-ratelimit headers."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_SECOND = 1.0
_UNITS = {"ms": _SECOND / 1000, "s": _SECOND, "m": 60 * _SECOND, "h": 3600 * _SECOND, "d": 86_400 * _SECOND}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)", re.ASCII)
_NUMBER = re.compile(r"\d{1,15}(\.\d{1,9})?", re.ASCII)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of `retry-after-ms` or `Retry-After`, which is a number or a date; None: it isn't said."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    said = headers.get("retry-after", "").strip()
    seconds = _number(said)
    if seconds is not None:
        return seconds
    try:
        date = parsedate_to_datetime(said)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    due = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (due - datetime.now(UTC)).total_seconds())


def until_room(headers: Mapping[str, str], tokens: int) -> float:
    """Return after how many seconds the server has room for one more request of so many tokens; 0: now.

    `x-ratelimit-reset-*` is the time until the whole limit is free again, so room for less comes in proportion.
    """
    return max(_until(headers, "requests", 1), _until(headers, "tokens", tokens))


def _until(headers: Mapping[str, str], kind: str, needed: int) -> float:
    remaining = _number(headers.get(f"x-ratelimit-remaining-{kind}", ""))
    limit = _number(headers.get(f"x-ratelimit-limit-{kind}", ""))
    reset = _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
    if remaining is None or reset is None or remaining >= needed:
        return 0.0
    if limit is None or limit <= remaining:
        return reset
    return reset * min(1.0, (needed - remaining) / (limit - remaining))


def _duration(text: str) -> float | None:
    """Return the seconds of a duration such as 6m0s, 20ms or 1.5 (seconds)."""
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text.strip():
        return math.fsum(float(number) * _UNITS[unit] for number, unit in parts)
    return _number(text)


def _number(text: str) -> float | None:
    return float(text.strip()) if _NUMBER.fullmatch(text.strip()) else None
