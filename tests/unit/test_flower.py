"""What Flower's task list shows as a result."""

from celery.events.state import Task

from backfill_tasks.worker.flower import show


class TestShow:
    def test_a_page_shows_its_outcome_and_what_it_counted(self) -> None:
        counts = "{'outcome': 'committed', 'read': 50, 'inserted': 41, 'requeued': 0, 'disqualified': 9}"

        assert shown(state="SUCCESS", result=counts) == "committed read=50 inserted=41 disqualified=9"

    def test_a_page_that_did_nothing_shows_why(self) -> None:
        assert shown(state="SUCCESS", result="{'outcome': 'duplicate'}") == "duplicate"

    def test_a_page_that_failed_shows_its_reason(self) -> None:
        assert shown(state="FAILURE", exception="page 7: permission denied") == "page 7: permission denied"

    def test_a_page_that_is_put_off_shows_its_reason(self) -> None:
        assert shown(state="RETRY", exception="deadlock detected (40P01)") == "deadlock detected (40P01)"

    def test_a_page_at_work_shows_nothing(self) -> None:
        assert shown(state="STARTED") is None

    def test_another_task_shows_what_it_said(self) -> None:
        assert shown(name="backfill.watchdog", state="SUCCESS", result="{'seeded': []}") == "{'seeded': []}"


def shown(*, name: str = "backfill.page", **fields: str) -> str | None:
    text: str | None = show(Task("an-id", name=name, **fields)).result
    return text
