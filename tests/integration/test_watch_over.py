"""One round of the watchdog: it reseeds a stalled lane, but not a lane that waits for a reason."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from integration.site import Site

from backfill_tasks.engine import ledger
from backfill_tasks.engine.ledger import StalledLane
from backfill_tasks.engine.model import PageMessage

HOUR = 3_600.0


@dataclass
class Fleet:
    """Reports which messages are in flight, and records how often it was asked."""

    messages: Collection[PageMessage] = ()
    asked: list[str] = field(default_factory=list)

    def __call__(self) -> Collection[str]:
        self.asked.append("")
        return {message.task_id for message in self.messages}


def watch(site: Site, *on_their_way: PageMessage, stalled_seconds: float = 0) -> list[StalledLane]:
    return site.watchdog.look(stalled_seconds=stalled_seconds, on_their_way=Fleet(on_their_way))


def started(site: Site, *, lanes: int = 1) -> list[PageMessage]:
    """Start a run, lose its messages, and return them."""
    site.host.add_leads("a", "b", "c", "d")
    site.start(limit=1, lanes=lanes)
    lost = list(site.waiting)
    site.waiting.clear()
    return lost


class TestStalledLane:
    def test_lane_is_reseeded_with_a_new_generation(self, site: Site) -> None:
        (lost,) = started(site)

        watch(site)

        assert site.waiting == [replace(lost, generation=2)]

    def test_reseeded_lane_is_returned(self, site: Site) -> None:
        (lost,) = started(site)

        assert watch(site) == [StalledLane(lost.run, lane=1, page=0, generation=1)]

    def test_reseeding_does_not_count_as_a_move(self, site: Site) -> None:
        (lost,) = started(site)
        before = site.read(lost.run).lanes[0].moved_at

        watch(site)

        assert site.read(lost.run).lanes[0].moved_at == before
        assert watch(site, stalled_seconds=HOUR) == []

    def test_lane_continues_after_its_last_committed_page(self, site: Site) -> None:
        site.waiting[:] = started(site)
        site.deliver()
        (lost,) = site.waiting
        site.waiting.clear()

        watch(site)

        assert site.waiting == [PageMessage(lost.run, 1, 2, 2)]

    def test_lane_completes(self, site: Site) -> None:
        (lost,) = started(site)

        watch(site)
        site.deliver_all()

        assert site.read(lost.run).state == "complete"
        assert site.host.enqueued() == ["a", "b", "c", "d"]

    def test_late_message_is_superseded(self, site: Site) -> None:
        (late,) = started(site)
        watch(site)

        assert site.parts.chain.step(late).outcome == "superseded"

    def test_event_is_recorded(self, site: Site) -> None:
        started(site)

        watch(site)

        (event,) = site.host.rows("SELECT * FROM backfill.event WHERE name = 'lane seeded again'")
        assert event["detail"] == {"lane": 1, "page": 0, "reason": "its task was lost"}

    def test_cursor_is_placed_in_redis_again(self, site: Site) -> None:
        (lost,) = started(site)
        site.live.forget(lost.run, 1)

        watch(site)

        found = site.live.read(lost.run, 1)
        assert found is not None
        assert (found.generation, found.page) == (2, 0)

    def test_other_lanes_are_left_alone(self, site: Site) -> None:
        lost, owned = started(site, lanes=2)

        watch(site, owned)

        assert site.waiting == [replace(lost, generation=2)]


class TestWaitingLane:
    def test_lane_with_a_message_in_flight_is_not_reseeded(self, site: Site) -> None:
        (owned,) = started(site)

        assert watch(site, owned) == []
        assert site.waiting == []

    def test_lane_waiting_for_a_retry_is_not_reseeded(self, site: Site) -> None:
        (lost,) = started(site)
        with site.engine.begin() as connection:
            ledger.hold_back(connection, lost, HOUR, "a deadlock")

        assert watch(site) == []

    def test_lane_waiting_between_pages_is_not_reseeded(self, site: Site) -> None:
        site.host.add_leads("a", "b")
        site.start(limit=1, page_delay_ms=3_600_000)
        site.deliver()
        site.waiting.clear()

        assert watch(site) == []

    def test_lane_that_has_just_moved_is_not_reseeded(self, site: Site) -> None:
        started(site)

        assert watch(site, stalled_seconds=HOUR) == []

    def test_lane_of_a_paused_run_is_not_reseeded(self, site: Site) -> None:
        (lost,) = started(site)
        site.runs.pause(lost.run, "for lunch")

        assert watch(site) == []

    def test_failed_lane_is_not_reseeded(self, site: Site) -> None:
        lost, other = started(site, lanes=2)
        site.parts.chain.stop(lost, "it can't go on")

        assert watch(site, other) == []

    def test_fleet_is_not_asked_unless_a_lane_is_stalled(self, site: Site) -> None:
        fleet = Fleet()
        started(site)

        site.watchdog.look(stalled_seconds=HOUR, on_their_way=fleet)

        assert fleet.asked == []


class TestUnfinishedRun:
    def test_run_with_all_lanes_done_is_completed(self, site: Site) -> None:
        site.host.add_leads("a")
        run = site.start()
        site.parts.chain.pages.do(site.waiting.pop())

        watch(site)

        assert site.read(run.id).state == "complete"

    def test_run_with_a_failed_lane_fails(self, site: Site) -> None:
        (lost,) = started(site)
        with site.engine.begin() as connection:
            ledger.fail_lane(connection, lost, "it can't go on")

        watch(site)

        found = site.read(lost.run)
        assert (found.state, found.reason) == ("failed", "lane 1: it can't go on")

    def test_run_is_finished_once(self, site: Site) -> None:
        site.host.add_leads("a")
        site.start()
        site.parts.chain.pages.do(site.waiting.pop())

        watch(site)
        watch(site)

        assert site.host.values("SELECT count(*) FROM backfill.event WHERE name = 'complete'") == [1]
