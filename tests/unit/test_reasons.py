"""The diagnosis of a lane from what the sources report: mainly cases that no test can cause at will."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from unit.runs import START, run_of

from backfill_tasks import settings
from backfill_tasks.diagnosis import KINDS, Reason, explained, needs_reason, rules
from backfill_tasks.diagnosis.facts import BrokerView, DatabaseView, Facts, FleetView, WorkerView
from backfill_tasks.engine.model import MESSAGE_FORMAT, Bounds, Lane, PageMessage

JSON = Path(__file__).parents[2] / "docs/reference/json.md"

SETTINGS = settings.load({})
LANE = Lane(1, Bounds(None, None), None, 3, 1, "running", None, {}, START)
RUN = run_of(LANE, seen_at=START + timedelta(seconds=20))
TASK = PageMessage(RUN.id, 1, 4, 1).task_id

IDLE = WorkerView(queues=(SETTINGS.queue_of_format(MESSAGE_FORMAT),), processes=2)
FLEET = FleetView(connected=1, workers={"w@here": IDLE})
QUEUED = BrokerView(queued=frozenset({TASK}), watchdog=1.0)
FACTS = Facts(DatabaseView(), QUEUED, FLEET)


def kind_of(facts: Facts, *, still: float = 20.0) -> str:
    run = replace(RUN, seen_at=START + timedelta(seconds=still))
    return rules.of_a_stalled_lane(run, LANE, facts, SETTINGS).kind


def working_in(database: DatabaseView) -> Facts:
    """Return the facts of a worker that has the lane's page in flight, with this view from PostgreSQL."""
    return Facts(database, BrokerView(watchdog=1.0), of_a_worker(replace(IDLE, working={TASK: 12.0})))


def of_a_worker(view: WorkerView) -> FleetView:
    return FleetView(connected=1, workers={"w@here": view})


def test_a_worker_is_deaf_that_is_free_and_leaves_the_page_in_the_queue() -> None:
    assert kind_of(FACTS) == "worker_deaf"


def test_no_worker_is_called_deaf_for_a_message_that_has_just_been_sent() -> None:
    assert kind_of(FACTS, still=1.0) == "queued"


def test_no_message_is_called_lost_that_has_just_been_sent() -> None:
    assert kind_of(replace(FACTS, broker=BrokerView(watchdog=1.0)), still=1.0) == "queued"


def test_no_worker_is_called_deaf_whose_processes_are_all_at_work() -> None:
    busy = replace(IDLE, working={"another": 1.0, "a-third": 1.0})

    assert kind_of(replace(FACTS, fleet=of_a_worker(busy))) == "workers_busy"


def test_a_message_is_under_way_that_came_or_went_between_two_looks() -> None:
    assert kind_of(replace(FACTS, broker=replace(QUEUED, moving=frozenset({TASK})))) == "queued"


def test_a_page_in_the_queue_of_workers_that_can_t_be_asked_is_queued() -> None:
    assert kind_of(replace(FACTS, fleet=FleetView(error="timed out"))) == "queued"


@pytest.mark.parametrize(
    ("database", "kind"),
    [
        (DatabaseView(error="connection refused"), "database_unreachable"),
        (DatabaseView(is_read_only=True), "database_read_only"),
        (DatabaseView(), "page_at_work"),
    ],
)
def test_a_page_that_a_worker_is_at_waits_for_the_database_where_that_is_in_trouble(
    database: DatabaseView, kind: str
) -> None:
    assert kind_of(working_in(database)) == kind


def test_a_page_that_will_be_tried_again_names_the_trouble_of_the_database() -> None:
    later = of_a_worker(replace(IDLE, later={TASK: 4.0}))
    facts = Facts(DatabaseView(is_read_only=True), BrokerView(watchdog=1.0), later)

    assert kind_of(facts) == "database_read_only"


@pytest.mark.parametrize(("rate", "kind"), [("20/s", "rate"), ("none", "queued"), (None, "queued")])
def test_a_page_waits_for_the_rate_only_where_there_is_one(rate: str | None, kind: str) -> None:
    fleet = of_a_worker(replace(IDLE, for_rate=frozenset({TASK})))

    assert kind_of(Facts(DatabaseView(), BrokerView(watchdog=1.0, rate=rate), fleet)) == kind


def test_without_any_evidence_the_reason_says_what_was_looked_at() -> None:
    reason = rules.of_a_stalled_lane(
        RUN, LANE, Facts(DatabaseView(), BrokerView(watchdog=1.0), FleetView(error="timed out")), SETTINGS
    )

    assert reason.kind == "unknown"
    assert "PostgreSQL: answers. Redis: answers. Workers: timed out" in reason.text


@pytest.mark.parametrize("still", [0.0, 2.0])
def test_a_lane_that_moves_needs_no_reason(still: float) -> None:
    assert not needs_reason(replace(RUN, seen_at=START + timedelta(seconds=still)), LANE)


def test_a_lane_needs_a_reason_long_before_ten_seconds_have_passed() -> None:
    assert needs_reason(replace(RUN, seen_at=START + timedelta(seconds=4)), LANE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_has_every_kind_with_its_meaning(kind: str) -> None:
    assert f"| {kind} | {KINDS[kind]} |" in JSON.read_text(encoding="utf-8")


def test_a_lane_that_is_reseeded_while_the_sources_are_asked_keeps_its_reason() -> None:
    reseeded = replace(LANE, generation=2, held_until=RUN.seen_at)

    found = explained(
        replace(RUN, lanes=(reseeded,)), RUN, {(RUN.id, 1): Reason("message_lost", "its message is gone")}
    )

    assert found.lanes[0].reason_kind == "message_lost"


def test_a_lane_that_has_moved_while_the_sources_were_asked_has_no_reason() -> None:
    moved = replace(LANE, page=4)

    found = explained(replace(RUN, lanes=(moved,)), RUN, {(RUN.id, 1): Reason("message_lost", "its message is gone")})

    assert found.lanes[0].reason_kind is None
