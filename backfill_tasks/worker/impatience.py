"""A worker that stops or reconnects waits for a silent Redis once, not once per connection that it closes."""

from typing import Any
from weakref import WeakSet

from celery.worker import state
from redis.exceptions import TimeoutError as RedisTimeoutError

#: How long Redis has to answer while the worker stops, in seconds.
_STOP_TIMEOUT = 2.0


class _Silence:
    """What this process knows: whether its last call to Redis timed out, and whether it is closing lost connections."""

    lasts = False
    disconnecting = False


#: This process's connections that may be open.
_open: "WeakSet[Any]" = WeakSet()


def disconnect(*, begins: bool) -> None:
    """Note that the worker starts closing its lost connections, or that it connects again.

    If Redis is silent, pooled connections are closed too: all of them are affected, and each would wait for its
    timeout.
    """
    _Silence.disconnecting = begins
    if begins and _Silence.lasts:
        for connection in list(_open):
            connection.disconnect()
        _open.clear()


def impatient(connection_class: Any) -> Any:
    """Return a connection class that fails at once while Redis is silent and the worker stops or disconnects.

    Otherwise each half-open connection would wait for its timeout. A later connection repeats what didn't reach
    Redis. A worker that stops doesn't repeat it, like a killed worker, and its messages are redelivered.

    Every read has a timeout.
    """

    class Impatient(connection_class):  # type: ignore[misc]  # a class of redis-py that the caller chooses
        def connect(self, *arguments: Any, **options: Any) -> Any:
            _require_patience()
            _open.add(self)
            return super().connect(*arguments, **options)

        def read_response(self, *arguments: Any, **options: Any) -> Any:
            _require_patience()
            if options.get("timeout", ...) is None:  # PubSub reads without a timeout, in the worker's loop
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
    """Return whether the worker is stopping. Celery stores the exit status there, which is 0 for success."""
    return any(status is not None and status is not False for status in (state.should_stop, state.should_terminate))


def _require_patience() -> None:
    """Return if Redis may be asked.

    Raises:
        RedisTimeoutError: Redis was silent, and the worker stops or disconnects.
    """
    if _Silence.lasts and (_Silence.disconnecting or _stopping()):
        raise RedisTimeoutError("Redis doesn't answer: this worker asks again over its next connection")
