"""Logging of passing Redis faults: one line per attempt instead of a traceback."""

import logging

from celery.beat import SchedulingError
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

#: Redis' error responses, and failures of the connection to it. The client's other errors (DataError, say) are bugs.
_PASSING = (ResponseError, RedisConnectionError, RedisTimeoutError, OperationalError, ConnectionError, TimeoutError)


class PassingFaultFilter(logging.Filter):
    """Replace the traceback of a passing fault with the fault's own text.

    Celery and kombu log every failed attempt with its traceback, for as long as the fault lasts. Errors of other kinds
    keep their traceback, as do critical records, which end the process, and all records with `--loglevel=debug`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass every record, a passing fault's shortened to one line."""
        wanted = record.levelno >= logging.CRITICAL or logging.getLogger().isEnabledFor(logging.DEBUG)
        fault = _fault(record.exc_info[1]) if record.exc_info and not wanted else ""
        if fault:
            said = record.getMessage().strip().partition("\n")[0]
            record.msg = said if fault in said else f"{said}: {fault}"
            record.args, record.exc_info, record.exc_text = (), None, None
        return True


def _fault(error: BaseException | None) -> str:
    """Return the text of a passing fault, or an empty string for any other error."""
    if isinstance(error, SchedulingError):  # beat's wrapper around the actual error
        error = error.__context__
    return (str(error) or type(error).__name__) if isinstance(error, _PASSING) else ""
