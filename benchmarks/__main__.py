"""`python -m benchmarks`: measures, prints the table and writes the JSON."""

import argparse
import json
import logging
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TextIO

import psycopg
from redis import Redis

from benchmarks import report
from benchmarks.parts import PARTS, Bench
from benchmarks.walk import BenchmarkError
from sandbox.host.sample import SCHEMA
from sandbox.servers import ServerError, servers

_RESULTS = Path(__file__).with_name("results") / "latest.json"

#: A server as in production: every commit reaches the disk. It has room enough that no checkpoint starts during a
#: measurement and that log files, once created, are overwritten.
_SETTINGS = {
    "shared_buffers": "1GB",
    "min_wal_size": "6GB",
    "max_wal_size": "24GB",
    "checkpoint_timeout": "30min",
}


def main() -> int:
    """Measure. Return 0 if everything could be measured, whatever the result."""
    arguments = _parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    signal.signal(signal.SIGTERM, _stop)
    began = time.monotonic()
    try:
        found = _measure(arguments)
    except (BenchmarkError, ServerError, psycopg.Error, OSError) as error:
        _say(f"bench: {error}", to=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _say("bench: stopped. No process is left running", to=sys.stderr)
        return 130
    content = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": report.machine(),
        "leads": arguments.leads,
        "page": arguments.limit,
        "repetitions": arguments.repetitions,
        "parts": {title: [line.as_json() for line in lines] for title, lines in found.items()},
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    _say(report.table(found))
    missed = report.missed(found.values())
    _say(f"\n{missed or 'no'} target{'' if missed == 1 else 's'} missed; {time.monotonic() - began:.0f} s")
    _say(f"written to {arguments.json}", to=sys.stderr)
    return 0


def _measure(arguments: argparse.Namespace) -> dict[str, list[report.Line]]:
    chosen = arguments.only or [name for name, part in PARTS.items() if arguments.large or not part.large]
    with servers(settings=_SETTINGS) as started:
        if started.redis is not None:
            with Redis.from_url(started.redis_url) as client:  # as the README asks
                client.config_set("appendonly", "yes")
        bench = Bench(
            database_url=started.database_url,
            redis_url=started.redis_url,
            leads=arguments.leads,
            limit=arguments.limit,
            repetitions=arguments.repetitions,
            sample=arguments.sample,
            schema=arguments.schema,
            seconds=arguments.seconds,
        )
        return {PARTS[name].title: PARTS[name].measure(bench) for name in chosen}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the tool against its bare page statement and against one upsert a lead.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--leads", type=_positive, default=200_000, help="leads of the host database")
    parser.add_argument("--limit", type=_positive, default=500, help="page size")
    parser.add_argument("--repetitions", type=_positive, default=5, help="number of measurements; the median counts")
    parser.add_argument("--sample", type=_positive, default=5_000, help="leads for the one-by-one upsert")
    parser.add_argument("--schema", type=Path, default=SCHEMA, help="SQL that creates the host's tables")
    parser.add_argument("--seconds", type=_positive, default=60, help="seconds for which each rate is measured")
    parser.add_argument("--large", action="store_true", help="measure the long parts, too: an hour more")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of: {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, default=_RESULTS, help="file to write the figures to")
    arguments = parser.parse_args()
    if not arguments.schema.is_file():
        parser.error(f"--schema: there is no file {arguments.schema}")
    return arguments


def _positive(value: str) -> int:
    if not value.isdecimal() or int(value) == 0:
        raise argparse.ArgumentTypeError(f"{value!r} is not a positive whole number")
    return int(value)


def _say(line: str, *, to: TextIO = sys.stdout) -> None:
    print(line, file=to, flush=True)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
