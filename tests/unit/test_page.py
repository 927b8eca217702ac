"""The HTML report has the run's whole history, runs no script and loads nothing external."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.cli.render.report_html import as_html
from backfill_tasks.engine.ledger import Bucket, Event, History, Hold, Span
from backfill_tasks.engine.model import Bounds, Lane, Quarantined, Run, RunId
from backfill_tasks.options import Parameters
from backfill_tasks.snapshot import Snapshot

START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
NASTY = "<script>alert('x')</script>&\"</svg>$\\frac{1}{2}$"
COUNTS = {"read": 1_234_567, "inserted": 1_200_000, "requeued": 34_560, "quarantined": 7}


def moment(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def span(since: float, until: float) -> Span:
    return Span(moment(since), moment(until))


def a_run(**changes: Any) -> Run:
    lane = Lane(1, Bounds(None, "z"), "lead-77", 40, 2, "done", None, COUNTS, START)
    whole = Run(
        id=RunId("260301-093000-abcd"),
        mode="apply",
        state="complete",
        reason=None,
        parameters=Parameters(
            "lead-scoring", 500, 2, options={"client_ids": ["client-1"], "rescore_all": False, "delay_ms": 0}
        ),
        single_batch=False,
        started_at=START,
        finished_at=moment(100),
        seen_at=moment(200),
        started_by="me@here",
        ordinal=0,
        expected=None,
        lanes=(lane,),
    )
    return replace(whole, **changes)


def a_history(run: Run | None = None, **changes: Any) -> History:
    whole = History(
        run=run or a_run(),
        timeline=[Bucket(span(0, 50), 30, 900_000, 0.02, 0.3), Bucket(span(50, 100), 10, 334_567, 0.02, 0.1)],
        holds=[],
        events=[Event(START, "started", {}, "me@here"), Event(moment(100), "complete", {}, "worker@there")],
        quarantined=[],
        in_quarantine=0,
    )
    return replace(whole, **changes)


def html(history: History) -> str:
    return as_html(LeadScoring(), history, Snapshot(history.run, LeadScoring()))


class Reader(HTMLParser):
    """Parse a page into its text, and its elements with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._styles = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._styles += tag == "style"
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self._styles -= tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._styles:
            self.words += data.split()

    @property
    def text(self) -> str:
        return " ".join(self.words)


def text(history: History) -> str:
    return Reader(html(history)).text


class TestHtmlReport:
    @pytest.mark.parametrize(
        "expected",
        [
            "Run 260301-093000-abcd complete",
            "started by me@here",
            "from 2026-03-01 09:30:00",
            "to 2026-03-01 09:31:40",
            "duration 1 min 40 s",
            "pages 40 in 1 lane",
            "throughput 12,345.7 leads/s",
            "jobs enqueued 1,234,560",
            "inserted 1,200,000 job created",
            "quarantined 7 failed on their own",
            "client ids client-1",
            "max pending auto",
            "lead-77",
        ],
    )
    def test_shows_the_run(self, expected: str) -> None:
        assert expected in text(a_history())

    def test_shows_the_cost_only_if_a_price_is_set(self) -> None:
        priced = a_run(parameters=replace(a_run().parameters, cost_per_job=0.002))

        assert "cost 2,469.12 (1,234,560 jobs at 0.002)" in text(a_history(priced))
        assert "jobs at" not in text(a_history())

    def test_shows_every_event_with_its_detail_and_author(self) -> None:
        happened = [Event(moment(7), "tuned", {"limit": [500, 100]}, "ops@desk")]

        assert "2026-03-01 09:30:07 tuned ops@desk limit 500 -> 100" in text(a_history(events=happened))

    def test_shows_why_pages_were_postponed(self) -> None:
        hold = Hold("live queue", 1_234, 7_200, span(10, 30), "a live job has waited for 200 s", (span(10, 30),))

        assert "live queue 1,234 2 h 0 min 2026-03-01 09:30:10 2026-03-01 09:30:30 a live job has waited" in text(
            a_history(holds=[hold])
        )

    def test_lists_quarantined_leads_and_counts_the_rest(self) -> None:
        shown = text(a_history(quarantined=[Quarantined("lead-9", "too long (22001)")], in_quarantine=1_001))

        assert "lead-9 too long (22001)" in shown
        assert "and 1,000 more" in shown

    @pytest.mark.parametrize(
        ("state", "expected"),
        [("running", "still in progress at 2026-03-01 09:33:20"), ("paused", "paused at 2026-03-01 09:33:20")],
    )
    def test_unfinished_run_is_marked(self, state: str, expected: str) -> None:
        assert expected in text(a_history(a_run(state=state, finished_at=None)))

    def test_run_without_pages_has_no_plot_and_says_so(self) -> None:
        empty = a_history(a_run(lanes=()), timeline=[Bucket(span(0, 0.001))])

        assert "nothing to plot: no page was done or postponed" in text(empty)
        assert "<svg" not in html(empty)

    def test_escapes_markup_from_any_source(self) -> None:
        run = a_run(
            reason=NASTY,
            started_by=NASTY,
            parameters=replace(a_run().parameters, cursor=NASTY, options={"client_ids": [NASTY]}),
            lanes=(replace(a_run().lanes[0], cursor=NASTY, reason=NASTY),),
        )
        history = a_history(
            run,
            holds=[Hold(NASTY, 1, 1, span(0, 1), NASTY, (span(0, 1),))],
            events=[Event(START, NASTY, {"reason": NASTY, "tags": [NASTY]}, NASTY)],
            quarantined=[Quarantined(NASTY, NASTY)],
        )

        page = Reader(html(history))

        assert [tag for tag, _ in page.elements if tag == "script"] == []
        assert [tag for tag, _ in page.elements].count("svg") == 1
        assert page.text.count(NASTY) == 15

    def test_loads_nothing_external(self) -> None:
        page = Reader(html(a_history()))

        assert {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object"} == set()
        for tag, attributes in page.elements:
            for name, value in attributes.items():
                assert name not in {"src", "srcset"}, tag
                if name.endswith("href"):
                    assert str(value).startswith("#"), tag
        assert set(re.findall(r'[\w:]+="https?://', html(a_history()))) <= {'xmlns:xlink="http://', 'xmlns="http://'}
        assert "@import" not in html(a_history())

    def test_is_deterministic(self) -> None:
        assert html(a_history()) == html(a_history())
