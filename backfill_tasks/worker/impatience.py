"""A worker that stops or connects again asks a silent Redis once, not once for each thing that it has to end."""

from typing import Any
from weakref import WeakSet

from celery.worker import state
from redis.exceptions import TimeoutError as RedisTimeoutError

#: How long Redis has for an answer when the worker is to stop, in seconds.
_STOP_TIMEOUT = 2.0


class _Silence:
    """What this process knows: its last question to Redis got no answer in time; it ends its lost connections."""

    lasts = False
    disconnecting = False


#: The connections of this process that may be open.
_open: "WeakSet[Any]" = WeakSet()


def disconnect(*, begins: bool) -> None:
    """Note that the worker begins to end its lost connections, or connects again.

    Where Redis is silent, those in store end too: what befell one has befallen all, and each would take its time-out.
    """
    _Silence.disconnecting = begins
    if begins and _Silence.lasts:
        for connection in list(_open):
            connection.disconnect()
        _open.clear()


def impatient(connection_class: Any) -> Any:
    """Return a class of connections that fail at once where Redis is silent and the worker stops or disconnects.

    Connections that are half open would take a time-out each. What Redis isn't told, a later connection tells; a worker
    that stops leaves it, as one that is killed does: its messages come back.

    No read is without a time-out.
    """

    class Impatient(connection_class):  # type: ignore[misc]  # a class of redis-py's that the caller knows
        def connect(self, *arguments: Any, **options: Any) -> Any:
            _require_patience()
            _open.add(self)
            return super().connect(*arguments, **options)

        def read_response(self, *arguments: Any, **options: Any) -> Any:
            _require_patience()
            if options.get("timeout", ...) is None:  # PubSub's: without a time-out, in the worker's loop
                del options["timeout"]
            try:
                answer = super().read_response(*arguments, **(_limit() | options))
            except RedisTimeoutError:
                _Silence.lasts = True
                raise
            _Silence.lasts = False
            return answer

    return Impatient


def _limit() -> dict[str, float]:
    return {"timeout": _STOP_TIMEOUT} if _stopping() else {}


def _stopping() -> bool:
    """Whether the worker is to stop; Celery notes the exit status, 0 for success."""
    return any(status is not None and status is not False for status in (state.should_stop, state.should_terminate))


def _require_patience() -> None:
    """Return if Redis may be asked.

    Raises:
        RedisTimeoutError: it was silent, and the worker stops or disconnects.
    """
    if _Silence.lasts and (_Silence.disconnecting or _stopping()):
        raise RedisTimeoutError("Redis is silent: not asked again before the next connection")
