"""SIGINT and SIGTERM end a wait, whenever they arrive."""

import subprocess
import sys

import pytest
from harness import PATIENCE

#: Another process sends a signal each time a wait begins, after a varying delay. So the signal arrives at every
#: instruction of the wait, and just before it.
WAITS = """
import os, signal, time
from backfill_tasks.cli.signals import signals

waits, begin = os.pipe()
waiting = os.getpid()
if not os.fork():
    os.close(begin)
    number = 0
    while os.read(waits, 1):
        until = time.perf_counter() + number % 100 / 1e6
        while time.perf_counter() < until:
            pass
        os.kill(waiting, signal.{name})
        number += 1
    os._exit(0)
for _ in range(5_000):
    with signals() as stopped:
        os.write(begin, b".")
        while not stopped.wait({seconds}):
            pass
print("each one was seen")
"""

ANOTHER = """
import os, signal
from backfill_tasks.cli.signals import signals

signal.signal(signal.SIGUSR1, lambda number, frame: None)
with signals() as stopped:
    os.kill(os.getpid(), signal.SIGUSR1)
    print(stopped.wait(0.1))
    os.kill(os.getpid(), signal.SIGTERM)
    print(stopped.wait())
"""


def output(program: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return found.stdout


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("seconds", [None, 0.000_01])
def test_sigint_or_sigterm_ends_the_wait(name: str, seconds: float | None) -> None:
    assert output(WAITS.format(name=name, seconds=seconds)) == "each one was seen\n"


def test_other_signal_does_not_end_the_wait() -> None:
    assert output(ANOTHER) == "False\nTrue\n"
