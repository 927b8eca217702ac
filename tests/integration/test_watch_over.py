"""The watchdog's round: a stalled lane is reseeded, one that waits for a reason is not."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from integration.site import Site

from backfill_tasks.engine import ledger
from backfill_tasks.engine.ledger import StalledLane
from backfill_tasks.engine.model import PageMessage

HOUR = 3_600.0


@dataclass
class Fleet:
    """Reports which messages are in flight, and counts how often it was asked."""

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


class TestALaneThatStands:
    def test_is_seeded_again_as_a_new_generation(self, site: Site) -> None:
        (lost,) = started(site)

        watch(site)

        assert site.waiting == [replace(lost, generation=2)]

    def test_is_told(self, site: Site) -> None:
        (lost,) = started(site)

        assert watch(site) == [StalledLane(lost.run, lane=1, page=0, generation=1)]

    def test_has_not_moved_by_that(self, site: Site) -> None:
        (lost,) = started(site)
        before = site.read(lost.run).lanes[0].moved_at

        watch(site)

        assert site.read(lost.run).lanes[0].moved_at == before
        assert watch(site, stalled_seconds=HOUR) == []

    def test_goes_on_after_the_last_page_that_was_committed(self, site: Site) -> None:
        site.waiting[:] = started(site)
        site.deliver()
        (lost,) = site.waiting
        site.waiting.clear()

        watch(site)

        assert site.waiting == [PageMessage(lost.run, 1, 2, 2)]

    def test_is_done_to_its_end(self, site: Site) -> None:
        (lost,) = started(site)

        watch(site)
        site.deliver_all()

        assert site.read(lost.run).state == "complete"
        assert site.host.enqueued() == ["a", "b", "c", "d"]

    def test_does_nothing_for_a_message_that_turns_up_after_all(self, site: Site) -> None:
        (late,) = started(site)
        watch(site)

        assert site.parts.chain.step(late).outcome == "superseded"

    def test_is_noted_as_an_event(self, site: Site) -> None:
        started(site)

        watch(site)

        (event,) = site.host.rows("SELECT * FROM backfill.event WHERE name = 'lane seeded again'")
        assert event["detail"] == {"lane": 1, "page": 0, "reason": "its task was lost"}

    def test_is_placed_in_redis_again(self, site: Site) -> None:
        (lost,) = started(site)
        site.live.forget(lost.run, 1)

        watch(site)

        found = site.live.read(lost.run, 1)
        assert found is not None
        assert (found.generation, found.page) == (2, 0)

    def test_does_not_disturb_the_others(self, site: Site) -> None:
        lost, owned = started(site, lanes=2)

        watch(site, owned)

        assert site.waiting == [replace(lost, generation=2)]


class TestALaneThatIsHeldBack:
    def test_by_a_queue_or_a_worker_is_not_seeded_again(self, site: Site) -> None:
        (owned,) = started(site)

        assert watch(site, owned) == []
        assert site.waiting == []

    def test_by_a_wait_before_a_retry_is_not_seeded_again(self, site: Site) -> None:
        (lost,) = started(site)
        with site.engine.begin() as connection:
            ledger.hold_back(connection, lost, HOUR, "a deadlock")

        assert watch(site) == []

    def test_by_the_pause_between_pages_is_not_seeded_again(self, site: Site) -> None:
        site.host.add_leads("a", "b")
        site.start(limit=1, page_delay_ms=3_600_000)
        site.deliver()
        site.waiting.clear()

        assert watch(site) == []

    def test_that_has_just_moved_is_not_seeded_again(self, site: Site) -> None:
        started(site)

        assert watch(site, stalled_seconds=HOUR) == []

    def test_by_an_operator_is_not_seeded_again(self, site: Site) -> None:
        (lost,) = started(site)
        site.runs.pause(lost.run, "for lunch")

        assert watch(site) == []

    def test_by_its_own_end_is_not_seeded_again(self, site: Site) -> None:
        lost, other = started(site, lanes=2)
        site.parts.chain.stop(lost, "it can't go on")

        assert watch(site, other) == []

    def test_is_not_asked_for_where_nothing_stands(self, site: Site) -> None:
        fleet = Fleet()
        started(site)

        site.watchdog.look(stalled_seconds=HOUR, on_their_way=fleet)

        assert fleet.asked == []


class TestARunThatNobodyEnded:
    def test_is_complete_when_all_its_lanes_are_done(self, site: Site) -> None:
        site.host.add_leads("a")
        run = site.start()
        site.parts.chain.pages.do(site.waiting.pop())

        watch(site)

        assert site.read(run.id).state == "complete"

    def test_is_failed_when_a_lane_has_stopped(self, site: Site) -> None:
        (lost,) = started(site)
        with site.engine.begin() as connection:
            ledger.fail_lane(connection, lost, "it can't go on")

        watch(site)

        found = site.read(lost.run)
        assert (found.state, found.reason) == ("failed", "lane 1: it can't go on")

    def test_is_ended_once(self, site: Site) -> None:
        site.host.add_leads("a")
        site.start()
        site.parts.chain.pages.do(site.waiting.pop())

        watch(site)
        watch(site)

        assert site.host.values("SELECT count(*) FROM backfill.event WHERE name = 'complete'") == [1]
