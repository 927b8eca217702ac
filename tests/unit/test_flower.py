"""The result column of Flower's task list."""

from celery.events.state import Task

from backfill_tasks.worker.flower import show


class TestShow:
    def test_finished_page_shows_outcome_and_counts(self) -> None:
        counts = "{'outcome': 'committed', 'read': 50, 'inserted': 41, 'requeued': 0, 'disqualified': 9}"

        assert shown(state="SUCCESS", result=counts) == "committed read=50 inserted=41 disqualified=9"

    def test_no_op_page_shows_its_outcome(self) -> None:
        assert shown(state="SUCCESS", result="{'outcome': 'duplicate'}") == "duplicate"

    def test_failed_page_shows_its_reason(self) -> None:
        assert shown(state="FAILURE", exception="page 7: permission denied") == "page 7: permission denied"

    def test_postponed_page_shows_its_reason(self) -> None:
        assert shown(state="RETRY", exception="deadlock detected (40P01)") == "deadlock detected (40P01)"

    def test_page_in_flight_shows_nothing(self) -> None:
        assert shown(state="STARTED") is None

    def test_other_task_shows_its_result(self) -> None:
        assert shown(name="backfill.watchdog", state="SUCCESS", result="{'seeded': []}") == "{'seeded': []}"


def shown(*, name: str = "backfill.page", **fields: str) -> str | None:
    text: str | None = show(Task("an-id", name=name, **fields)).result
    return text
