"""The memory of a worker's processes while it works."""

import os
import statistics
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_EVERY_SECONDS = 0.1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def measurable() -> bool:
    """Return whether this system reports memory: Linux does."""
    return Path("/proc/self/statm").exists()


@contextmanager
def watched(process: int) -> Iterator[dict[int, list[int]]]:
    """Sample the resident bytes of a process and its children several times per second while the block runs."""
    samples: dict[int, list[int]] = defaultdict(list)
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_EVERY_SECONDS):
            for each in (process, *_children(process)):
                samples[each].append(_resident(each))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield samples
    finally:
        ended.set()
        watcher.join()


def growth(samples: Sequence[int]) -> float:
    """Return the ratio of the last quarter of a process's samples to the first: 1 is flat."""
    quarter = max(1, len(samples) // 4)
    return statistics.median(samples[-quarter:]) / statistics.median(samples[:quarter])


def _children(process: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE_BYTES
