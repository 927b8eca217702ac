"""The demo: unscored leads of a sample host database become scored leads, with workers, beat and Flower.

The servers are real. Their data is in a temporary folder, which is removed when the demo ends.
"""

import argparse
import contextlib
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

from sandbox.demo import host
from sandbox.demo.fleet import DemoError, backfill, fleet
from sandbox.process import ServerError
from sandbox.servers import create_database, drop_database, servers

LEADS = 20_000
REPORT = Path("build/demo-report.html")


def main() -> int:
    """Run the demo; return 0 if every step succeeded."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="stay up until Ctrl-C and print Flower's address")
    parser.add_argument(
        "--leads", type=int, default=LEADS, help="number of leads in the sample host database (%(default)s)"
    )
    parser.add_argument("--report", type=Path, default=REPORT, help="file for the run's report (%(default)s)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="backfill-demo-") as directory,
            servers(settings={}) as started,
            _database(started.database_url) as database_url,
        ):
            environment = {
                **os.environ,
                "DATABASE_URL": database_url,
                "REDIS_URL": started.redis_url,
                "BACKFILL_QUEUE": f"demo-{secrets.token_hex(4)}",
            }
            _demonstrate(Path(directory), environment, arguments)
    except (DemoError, ServerError, OSError) as error:
        _say(f"demo: {error}")
        return 1
    except KeyboardInterrupt:
        _say("demo: stopped. All its servers and workers have ended.")
        return 130
    return 0


def _demonstrate(directory: Path, environment: Mapping[str, str], arguments: argparse.Namespace) -> None:
    began = time.monotonic()
    _title(f"A host database of {arguments.leads:,} leads")
    sample = host.prepare(environment["DATABASE_URL"], arguments.leads)
    _say(f"It has {sample.clients} workspaces, {sample.messages:,} messages and {sample.jobs:,} old jobs.")
    _say(f"{sample.scored:,} leads have a score, {sample.no_inbound:,} never wrote, {sample.eligible:,} need a score.")
    _title("A worker for pages, a worker for scoring, beat and Flower")
    with fleet(directory, environment) as flower:
        _say(f"Flower: {flower}")
        _step("Dry run: count what a run would do", directory, environment, "run --limit 100")
        _step(
            "Run: a job for each lead, reserved for our own workers",
            directory,
            environment,
            "run --limit 100 --apply --score-here --yes",
        )
        _step("Score: the workers do the jobs", directory, environment, "work --scorer rules --until-done")
        _step("Verification: check the result in the database", directory, environment, "verify")
        _report(directory, environment, arguments.report)
        _title("Result: the host's tables before and after")
        _compare(environment["DATABASE_URL"])
        _say(f"The demo took {time.monotonic() - began:.0f} s, starting from an empty database.")
        if arguments.keep:
            _say(f"\nStaying up until Ctrl-C. Flower: {flower}")
            _say(f'To use `backfill` in another shell: export DATABASE_URL="{environment["DATABASE_URL"]}"')
            _say(f'  REDIS_URL="{environment["REDIS_URL"]}" BACKFILL_QUEUE="{environment["BACKFILL_QUEUE"]}"')
            threading.Event().wait()


def _report(directory: Path, environment: Mapping[str, str], path: Path) -> None:
    """Write the run's report to a file that outlives the demo."""
    _title("Report: the same as a page, with plots", f"backfill report -o - > {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        backfill(directory, environment, "report", "-o", "-", output=file)
    _say(f"Open {path} in a browser.")


def _compare(database_url: str) -> None:
    """Compare the host's tables with what they were before the run.

    Raises:
        DemoError: a lead has no score, or a wrong one; another lead has changed; or a job is left.
    """
    found = host.check(database_url)
    if found.faults:
        raise DemoError(f"the database is not as it should be: {'; '.join(found.faults)}")
    _say(f"All {found.eligible:,} eligible leads have a score; the {found.disqualified:,} disqualified ones have 1.")
    _say("No other lead has changed, and no job of the backfill is left.")


@contextlib.contextmanager
def _database(url: str) -> Iterator[str]:
    """Create a database for the demo on a server, and drop it at the end."""
    name = f"demo_{secrets.token_hex(3)}"
    try:
        yield create_database(url, name)
    finally:
        drop_database(url, name)


def _step(title: str, directory: Path, environment: Mapping[str, str], command: str) -> None:
    """Show a command and run it in this terminal."""
    _title(title, f"backfill {command}")
    backfill(directory, environment, *command.split())


def _title(title: str, command: str = "") -> None:
    _say(f"\n== {title}" + (f"\n$ {command}\n" if command else ""))


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (the demo prints)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
