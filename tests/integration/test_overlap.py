"""Which runs overlap, and that the check and the start are atomic."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from integration.site import Site

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.errors import UsageError


def walks(*client_ids: str) -> dict[str, list[str] | None]:
    return {"client_ids": list(client_ids) or None}


class TestWorkspaces:
    @pytest.mark.parametrize(
        ("one", "other", "what"),
        [
            (walks(), walks(), "all workspaces"),
            (walks("a"), walks(), "workspace a"),
            (walks(), walks("b", "a"), "workspaces a, b"),
            (walks("a", "b"), walks("b", "c"), "workspace b"),
            (walks(*"abcde"), walks(), "workspaces a, b, c and 2 more"),
            (walks("a"), walks("b"), None),
        ],
    )
    def test_overlap_names_the_shared_workspaces(
        self, one: dict[str, list[str]], other: dict[str, list[str]], what: str | None
    ) -> None:
        assert LeadScoring().overlap(one, other) == what


class TestStart:
    def test_start_is_refused_while_an_overlapping_run_is_running(self, site: Site) -> None:
        site.host.add_leads("lead-1")
        run = site.start()

        with pytest.raises(UsageError, match=f"run {run.id} is running"):
            site.start(force=False)

        assert site.host.values("SELECT count(*) FROM backfill.run") == [1]
        assert len(site.waiting) == 1

    def test_start_is_allowed_if_the_overlapping_run_has_nothing_left(self, site: Site) -> None:
        site.host.add_leads("lead-1")
        site.start()
        site.host.do("UPDATE backfill.lane SET state = 'done'")  # as if a worker had died before it ended the run

        assert site.start(force=False).state == "running"

    def test_concurrent_start_waits_and_then_finds_the_other_run(self, site: Site, aside: ThreadPoolExecutor) -> None:
        site.host.add_leads("lead-1")
        with site.host.session() as other:
            other.execute("SELECT pg_advisory_xact_lock(hashtextextended('backfill:start', 0))")
            second = aside.submit(site.start, force=False)
            site.host.wait_until_blocked()
            other.execute(
                "INSERT INTO backfill.run (id, backfill, state, parameters, started_by)"
                """ VALUES ('first', 'lead-scoring', 'running', '{"client_ids": null}', 'another')"""
            )
            other.execute("INSERT INTO backfill.lane (run_id, number, upper_bound) VALUES ('first', 1, 'z')")
            other.commit()

        with pytest.raises(UsageError, match="run first is running"):
            second.result(timeout=10)
