"""A transient Redis fault takes one line in the log; a bug keeps its traceback."""

import logging

import pytest
from celery.beat import SchedulingError
from kombu.exceptions import OperationalError
from redis.exceptions import DataError, ReadOnlyError

from backfill_tasks.worker.passing import PassingFaultFilter


def logged(error: Exception, *, level: int = logging.ERROR) -> str:
    """Return the log text for an error."""
    record = logging.LogRecord(
        "celery", level, __file__, 1, "not sent: %s\n%s", ("why", ["stack"]), (type(error), error, error.__traceback__)
    )
    assert PassingFaultFilter().filter(record)
    return logging.Formatter("%(message)s").format(record)


def while_handling(cause: Exception, error: Exception) -> Exception:
    """Return an error as if raised while another was handled."""
    error.__context__ = cause
    return error


@pytest.mark.parametrize("fault", [ReadOnlyError("refused"), OperationalError("refused"), TimeoutError("refused")])
def test_transient_fault_takes_one_line(fault: Exception) -> None:
    assert logged(fault) == "not sent: why: refused"


def test_transient_fault_in_beats_scheduling_takes_one_line() -> None:
    assert logged(while_handling(ReadOnlyError("refused"), SchedulingError("not sent"))) == "not sent: why: refused"


def test_transient_fault_without_a_message_is_named() -> None:
    assert logged(TimeoutError()) == "not sent: why: TimeoutError"


@pytest.mark.parametrize(
    "bug",
    [
        KeyError("x"),
        DataError("no such type"),
        FileNotFoundError("x"),
        while_handling(ReadOnlyError("refused"), KeyError("x")),
        while_handling(KeyError("x"), SchedulingError("not sent")),
    ],
)
def test_bug_keeps_its_traceback(bug: Exception) -> None:
    assert logged(bug).startswith("not sent: why\n['stack']\n")
    assert type(bug).__name__ in logged(bug)


def test_fatal_error_keeps_its_traceback() -> None:
    assert "ReadOnlyError" in logged(ReadOnlyError("refused"), level=logging.CRITICAL)


def test_debug_log_keeps_all_tracebacks() -> None:
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.DEBUG)
    try:
        assert "ReadOnlyError" in logged(ReadOnlyError("refused"))
    finally:
        root.setLevel(before)
