"""Validation of messages before kombu and Celery see them.

Anyone who can reach the broker can write anything into a queue, and kombu and Celery trust what they find there: a
message without a content type, for example, ends every worker that takes it. So a worker validates each message first,
strictly: this application sends few kinds of messages, all of them plain JSON.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

from backfill_tasks.errors import MalformedError

#: The largest message of any kind, in bytes. The largest legitimate ones, the replies of a big fleet, are far smaller.
_MOST_BYTES = 16 * 1024 * 1024

#: The largest body of a task, in bytes; a page's body has a few hundred.
_MOST_TASK_BYTES = 64 * 1024

_LONGEST_NAME = 255
_HIGHEST_PRIORITY = 255

#: None of our tasks waits longer: a message with a later ETA would occupy a worker's slot indefinitely.
_LONGEST_WAIT = timedelta(days=7)


def read(raw: bytes | str) -> dict[str, Any]:
    """Parse and validate a raw message from Redis.

    Raises:
        MalformedError: it is not a valid message.
    """
    _require(len(raw) <= _MOST_BYTES, f"it is larger than {_MOST_BYTES} bytes")
    try:
        content = json.loads(raw)
    except UnicodeDecodeError:
        raise MalformedError("it is not UTF-8 text") from None
    except (ValueError, RecursionError):
        raise MalformedError("it is not JSON") from None
    return require(content)


def require(content: Any) -> dict[str, Any]:
    """Return the message if kombu can handle it.

    Raises:
        MalformedError: kombu can't.
    """
    if not isinstance(content, dict):
        raise MalformedError("it is not a JSON object")
    headers = content.get("headers")
    if not isinstance(headers, dict):
        raise MalformedError("headers is not an object")
    _require(not headers.get("compression"), "the body is compressed")
    for name in ("content-type", "content-encoding"):
        _require(_is_name(content.get(name)), f"{name} is not a text")
    properties = content.get("properties")
    if not isinstance(properties, dict):
        raise MalformedError("properties is not an object")
    _require(_is_name(properties.get("delivery_tag")), "delivery_tag is not a text")
    priority = properties.get("priority")
    _require(priority is None or _is_count(priority, _HIGHEST_PRIORITY), "priority is not a number from 0 to 255")
    route = properties.get("delivery_info")
    if not isinstance(route, dict):
        raise MalformedError("delivery_info is not an object")
    for name in ("exchange", "routing_key"):
        _require(isinstance(route.get(name), str), f"{name} is not a text")
    _require_body(content.get("body"), properties.get("body_encoding"))
    return content


def require_task(message: Any, signatures: Mapping[str, Callable[..., Any]]) -> tuple[str, dict[str, Any]]:
    """Return the name and the keyword arguments of a task.

    Args:
        message: a kombu message.
        signatures: for each task that a message may name, a callable that accepts the task's arguments and no others.

    Raises:
        MalformedError: the message is not a task of this application.
    """
    for name, is_valid in _HEADERS.items():
        _require(is_valid(message.headers.get(name)), f"the header {name} makes no sense")
    task: str = message.headers["task"]
    _require(task in signatures, "no task has this name")
    kind = (message.content_type, message.content_encoding)
    _require(kind == ("application/json", "utf-8"), "the body's type is not application/json in utf-8")
    return task, _arguments(message.body, signatures[task])


def task_id(raw: bytes | str) -> str | None:
    """Return the task id of a raw message from Redis, or None if it has none."""
    try:
        found = read(raw)["headers"].get("id")
    except MalformedError:
        return None
    return found if isinstance(found, str) else None


def _arguments(body: bytes, signature: Callable[..., Any]) -> dict[str, Any]:
    _require(len(body) <= _MOST_TASK_BYTES, f"the body is larger than {_MOST_TASK_BYTES} bytes")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedError("the body is not JSON") from None
    match content:
        case [list(args), dict(kwargs), dict(embedded)]:
            _require(not any(embedded.values()), "the body names other tasks: callbacks, a chain or a chord")
        case _:
            raise MalformedError("the body is not [arguments, named arguments, options]")
    try:
        signature(*args, **kwargs)
    except TypeError:
        raise MalformedError("the task does not take these arguments") from None
    return kwargs


def _require_body(body: Any, encoding: Any) -> None:
    if not isinstance(body, str):
        raise MalformedError("body is not a text")
    if encoding == "base64":
        try:
            base64.b64decode(body, validate=True)
        except (binascii.Error, ValueError):
            raise MalformedError("body is not base64") from None
    elif encoding not in {None, "utf-8"}:
        raise MalformedError("body_encoding is neither base64 nor utf-8")


def _require(valid: bool, otherwise: str) -> None:  # noqa: FBT001  a check and what it means
    if not valid:
        raise MalformedError(otherwise)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: Any, most: int = 2**31 - 1) -> bool:
    return type(value) is int and 0 <= value <= most


def _is_count_or_none(value: Any) -> bool:
    return value is None or _is_count(value)


def _is_flag_or_none(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _is_time_or_none(value: Any) -> bool:
    if value is None:
        return True
    try:
        moment = datetime.fromisoformat(value)
        ahead = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)
    except (TypeError, ValueError, OverflowError):
        return False
    return abs(ahead) < _LONGEST_WAIT


def _are_limits_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) == len(("hard", "soft")) and not any(value))


def _is_nothing(value: Any) -> bool:
    return not value


#: The task headers that Celery and this application read. Celery validates none of them.
_HEADERS: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {
        "id": _is_name,
        "task": _is_name,
        "root_id": _is_text_or_none,
        "parent_id": _is_text_or_none,
        "group": _is_text_or_none,
        "shadow": _is_text_or_none,
        "argsrepr": _is_text_or_none,
        "kwargsrepr": _is_text_or_none,
        "eta": _is_time_or_none,
        "expires": _is_time_or_none,
        "retries": _is_count_or_none,
        "timelimit": _are_limits_or_none,
        "ignore_result": _is_flag_or_none,
        "replaced_task_nesting": _is_count_or_none,
        "stamped_headers": _is_nothing,
        "stamps": _is_nothing,
        "backfill_format": _is_count_or_none,
    }
)
