"""How the log tells a fault of Redis that passes: in one line for each attempt, not by a traceback."""

import logging

from celery.beat import SchedulingError
from kombu.exceptions import OperationalError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

#: What Redis answered, and what befell the way to it. Other errors of the client's (DataError, say) are bugs.
_PASSING = (ResponseError, RedisConnectionError, RedisTimeoutError, OperationalError, ConnectionError, TimeoutError)


class PassingFaultFilter(logging.Filter):
    """Replace the traceback of a passing fault by the fault's own text.

    Celery and kombu log each failed attempt with its traceback, for as long as the fault lasts. Errors of other kinds
    keep theirs, and so do a critical record, which ends the process, and all records with `--loglevel=debug`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, a passing fault's in one line."""
        wanted = record.levelno >= logging.CRITICAL or logging.getLogger().isEnabledFor(logging.DEBUG)
        fault = _fault(record.exc_info[1]) if record.exc_info and not wanted else ""
        if fault:
            said = record.getMessage().strip().partition("\n")[0]
            record.msg = said if fault in said else f"{said}: {fault}"
            record.args, record.exc_info, record.exc_text = (), None, None
        return True


def _fault(error: BaseException | None) -> str:
    """Return the text of the passing fault that an error is; nothing where it is another."""
    if isinstance(error, SchedulingError):  # beat's, around whatever befell it
        error = error.__context__
    return (str(error) or type(error).__name__) if isinstance(error, _PASSING) else ""
