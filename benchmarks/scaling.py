"""`python -m benchmarks.scaling`: the speed of 1, 2 and 4 workers in Compose. Needs only Docker.

Each figure is a whole run of the command's service on a fresh copy of one host database, in an installation that is
created for it and removed afterwards.
"""

import argparse
import json
import logging
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from benchmarks import report
from benchmarks.tool import FULL_SPEED
from benchmarks.walk import BenchmarkError
from sandbox.installation import Installation, InstallationError

logger = logging.getLogger(__name__)

_RESULTS = Path(__file__).with_name("results") / "scaling.json"
_READY_SECONDS = 120.0
_RUN_SECONDS = 1800.0

#: The children of one worker in docker-compose.yml: the lanes it walks at once.
_CHILDREN = 2

#: Settings that let a run go as fast as the workers can.
_UNHINDERED = {**FULL_SPEED, "BACKFILL_RATE_LIMIT": "none"}


@dataclass(frozen=True)
class Column:
    """One column of the table: its settings, page size and the figure it takes from a run."""

    title: str
    unit: str
    settings: dict[str, str]
    limit: int
    figure: Callable[[dict[str, Any]], float]


@dataclass(frozen=True)
class Fleet:
    """An installation with a filled database `demo`, copied for each run."""

    installation: Installation

    def run(self, *, workers: int, column: Column) -> float:
        """Do a whole run with this many workers on a fresh copy, and return the column's figure."""
        self._renew(column.settings)
        self.installation.compose("up", "--detach", "--no-deps", f"--scale=worker={workers}", "worker", "beat")
        self._wait_for(workers)
        lanes = workers * _CHILDREN
        arguments = ["run", "--apply", f"--lanes={lanes}", f"--limit={column.limit}"]
        found = self.installation.json(*arguments, seconds=_RUN_SECONDS)
        if len(found["lanes"]) != lanes:
            raise BenchmarkError(f"a run had {len(found['lanes'])} lanes instead of {lanes}: raise --leads")
        return column.figure(found)

    def _renew(self, settings: dict[str, str]) -> None:
        """Start over: no worker, an empty Redis, and the database as it was at first."""
        self.installation.try_compose("kill", "worker", "beat")  # their work is discarded anyway
        self.installation.compose("rm", "--force", "worker", "beat")
        self.installation.compose("exec", "-T", "redis", "redis-cli", "flushall")
        self._sql("DROP DATABASE IF EXISTS measured WITH (FORCE)")
        self._sql("CREATE DATABASE measured TEMPLATE demo STRATEGY FILE_COPY")
        url = urlsplit(self.installation.variables["DATABASE_URL"])._replace(path="/measured").geturl()
        self.installation.set(DATABASE_URL=url, **settings)

    def _sql(self, statement: str) -> None:
        psql = ["psql", "--username=demo", "--dbname=postgres", "--quiet", f"--command={statement}"]
        self.installation.compose("exec", "-T", "postgres", *psql)

    def _wait_for(self, workers: int) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while (online := self.installation.workers_online()) != workers:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{online} of {workers} workers answer after {_READY_SECONDS:.0f} s")
            time.sleep(0.2)


def main() -> int:
    """Measure. Return 0 if everything could be measured, whatever the result."""
    arguments = _parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _stop)
    try:
        with _fleet(arguments.leads) as fleet:
            table = _measure(fleet, arguments)
    except (BenchmarkError, InstallationError, OSError) as error:
        logger.error("scaling: %s", error)  # noqa: TRY400  one line, as everywhere
        return 1
    except KeyboardInterrupt:
        logger.info("scaling: stopped. No process is left running")
        return 130
    content = {"machine": report.machine(), "leads": arguments.leads, "page": arguments.limit, "workers": table}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(_markdown(table))
    logger.info("written to %s", arguments.json)
    return 0


@contextmanager
def _fleet(leads: int) -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="backfill-scaling-") as directory:
        installation = Installation.make(Path(directory))
        try:
            logger.info("building the images")
            installation.compose("build", seconds=600)
            logger.info("filling a database of %d leads", leads)
            installation.compose("up", "--detach", "--wait", "postgres", "redis")
            sample = ["python", "-m", "sandbox.host", f"--leads={leads}"]
            installation.compose("run", "--rm", "-T", "sample", *sample, seconds=600)
            yield Fleet(installation)
        finally:
            installation.remove()


def _measure(fleet: Fleet, arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Return all figures, by number of workers and column."""
    table: dict[str, dict[str, list[float]]] = {}
    for workers in arguments.workers:
        table[str(workers)] = {}
        for column in _columns(arguments):
            values = [fleet.run(workers=workers, column=column) for _ in range(arguments.repetitions)]
            table[str(workers)][f"{column.title}, {column.unit}"] = values
            said = " ".join(f"{value:,.1f}" for value in values)
            logger.info("%d worker%s: %s %s", workers, "" if workers == 1 else "s", said, column.unit)
    return table


def _columns(arguments: argparse.Namespace) -> list[Column]:
    columns = [Column("throughput", "leads/s", _UNHINDERED, arguments.limit, _leads_a_second)]
    if arguments.rate:
        limited = {**_UNHINDERED, "BACKFILL_RATE_LIMIT": arguments.rate}
        columns.append(Column(f"at {arguments.rate}", "pages/s", limited, arguments.rate_limit, _pages_a_second))
    return columns


def _leads_a_second(run: dict[str, Any]) -> float:
    return float(run["counts"]["read"] / run["seconds"])


def _pages_a_second(run: dict[str, Any]) -> float:
    return float(run["pages"] / run["seconds"])


def _markdown(table: dict[str, dict[str, list[float]]]) -> str:
    """Return the medians as a Markdown table; the first column also as a multiple of its first row."""
    titles = list(next(iter(table.values())))
    first = statistics.median(next(iter(table.values()))[titles[0]])
    lines = [f"| workers | {titles[0]} | ratio | {''.join(f'{title} | ' for title in titles[1:])}".rstrip()]
    lines.append("| ---: " * (len(titles) + 2) + "|")
    for workers, columns in table.items():
        medians = [statistics.median(columns[title]) for title in titles]
        cells = [workers, f"{medians[0]:,.0f}", f"{medians[0] / first:.2f}", *(f"{each:.2f}" for each in medians[1:])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description="Measure what 1, 2 and 4 workers do in compose.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="numbers of workers, one row each")
    parser.add_argument("--leads", type=int, default=200_000, help="leads of the host database")
    parser.add_argument("--limit", type=int, default=500, help="page size")
    parser.add_argument("--repetitions", type=int, default=3, help="number of measurements; the median counts")
    parser.add_argument("--rate", help="add a column: pages per second at this rate, e.g. 20/s")
    parser.add_argument("--rate-limit", type=int, default=100, help="page size of that column")
    parser.add_argument("--json", type=Path, default=_RESULTS, help="file to write the figures to")
    return parser.parse_args()


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
