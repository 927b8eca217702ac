"""The alerts and the dashboard in a real Prometheus that scrapes real runs."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from acceptance.exporter import Export, Exporter
from acceptance.host import Host
from acceptance.prometheus import Prometheus
from deployed import dashboard, expressions, readable
from harness import Backfill, Worker, wait_for

Watch = Callable[[Exporter], Prometheus]


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Watch]:
    """Start a Prometheus that scrapes an exporter and ends with the test."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("there is no prometheus (Debian: apt install prometheus)")
    started: list[Prometheus] = []

    def start(exporter: Exporter) -> Prometheus:
        started.append(Prometheus.start(program, tmp_path, urlsplit(exporter.url).netloc))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def names_in(texts: list[str]) -> set[str]:
    """Return the names of the metrics in expressions."""
    return set(re.findall(r"\bbackfill_\w+", " ".join(texts)))


#: Expressions about current problems, about jobs reserved for scoring here and their session, and about a run's end.
MAY_BE_EMPTY = re.compile(
    r'state="(wait|unknown)"|> 0$|backfill_(drain_stopped|scoring_state|reserved_due_seconds|forecast_seconds)\b'
)


def filling(shown: list[str]) -> list[str]:
    """Return the expressions that always have a result in this test."""
    return [each for each in shown if not MAY_BE_EMPTY.search(each)]


@pytest.mark.long
def test_every_expression_parses_and_uses_scraped_metrics(
    backfill: Backfill, worker: Worker, inhabited: Host, export: Export, prometheus: Watch
) -> None:
    watching = prometheus(export(backfill))
    wait_for(lambda: watching.result("backfill_source_up"), what="the first scrape: pages are timed from then on")
    backfill("rate", "1000/s")
    backfill.json("run", "--apply", "--limit", "50")
    slow = ("--limit", "1", "--page-delay-ms", "600000", "--max-pending", "auto")
    backfill.json("run", "--apply", "--rescore-all", "--detach", *slow)
    backfill.json("drain", "--url", "http://127.0.0.1:9/nobody-answers")
    inhabited.execute("UPDATE backfill.run SET expected = 2000")  # as if counted before the run
    shown = [readable(each) for each in expressions(dashboard())]

    wait_for(lambda: len(watching.result("backfill_run_expected_items")) == 2, what="both runs to be scraped")
    wait_for(lambda: {each["health"] for each in watching.alerts()} == {"ok"}, what="all alerts to be evaluated")
    wait_for(lambda: all(map(watching.result, filling(shown))), what="the dashboard's panels to have something")

    alerted = [each["query"] for each in watching.alerts()]
    for each in set(shown).difference(filling(shown)):
        watching.result(each)  # fails if it can't be parsed
    assert names_in([*shown, *alerted]) <= watching.names()
