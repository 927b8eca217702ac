"""`backfill report` writes a run's history as one page of HTML."""

import re
from pathlib import Path

import pytest
from acceptance.commands import assert_refused
from acceptance.host import Host
from acceptance.test_json import PAGE
from harness import Backfill, wait_for

NO_RUN = "260101-000000-abcd"

#: The host's runner scores the leads and ends the jobs, one after the other.
_DO_JOBS = """
UPDATE "Lead" SET "overallScore" = 1 + abs(hashtext(id)) % 4, "scoredAt" = now() AT TIME ZONE 'UTC'
WHERE "overallScore" IS NULL AND id IN (
  SELECT "leadId" FROM "BackgroundJob" WHERE status = 'PENDING' AND starts_with("dedupeKey", 'lead_scoring_backfill:')
);
UPDATE "BackgroundJob" SET status = 'SUCCEEDED', "finishedAt" = now() AT TIME ZONE 'UTC' + interval '5 ms'
WHERE status = 'PENDING' AND starts_with("dedupeKey", 'lead_scoring_backfill:');
"""


@pytest.fixture
def run(alone: Backfill) -> str:
    """A run without a worker."""
    return str(alone.json("run", "--apply", "--detach")["run_id"])


@pytest.mark.usefixtures("worker")
def test_shows_a_held_page_a_pause_and_a_quarantined_lead(backfill: Backfill, inhabited: Host) -> None:
    lead = inhabited.lead_without_job()
    inhabited.refuse_job_of(lead, sqlstate="23514")
    inhabited.execute('DELETE FROM "BackgroundJob"')
    run = backfill.json("run", "--apply", "--detach", "--max-pending", "12", "--cost-per-job", "0.01")["run_id"]
    wait_for(lambda: backfill.json("status")["lanes"][0]["reason_kind"] == "max_pending", what="no more room")
    backfill("pause", run)
    backfill("tune", run, "--max-pending", "none")
    backfill("resume", run)
    ended = backfill.json("watch", run, status=3)

    done = backfill("report", run, "-o", "report.html")

    page = (backfill.directory / "report.html").read_text(encoding="utf-8")
    *results, last = done.stdout.splitlines()
    assert (last, done.stderr, done.returncode) == (f"Report of run {run}: report.html", "", 0)
    assert results[0].startswith(f"Scores of run {run}: ")
    assert f">{ended['counts']['inserted']:,}</td>" in page
    assert f"({ended['jobs']:,} jobs at 0.01)" in page
    assert [name in re.findall(r"<text[^>]*>([^<]*)</text>", page) for name in ("max pending", "paused")] == [True] * 2
    assert "no room in the host&#39;s queue: 12 jobs wait" in page
    assert "max pending 12 -&gt; none" in page
    assert "paused by command" in page
    assert f"<code>{lead}</code>" in page
    assert "the host&#39;s function fault.refuse() raised an error (23514)" in page


@pytest.mark.usefixtures("worker")
class TestScores:
    """The scores of a run's leads, by workspace, on the terminal and as JSON."""

    @pytest.fixture
    def scored(self, backfill: Backfill, inhabited: Host) -> str:
        """A run whose jobs the host has done."""
        run = str(backfill.json("run", "--apply", "--max-pending", "none", "--jobs-per-minute", "none")["run_id"])
        inhabited.execute(_DO_JOBS)
        return run

    def test_fit_in_80_columns_without_colours(self, backfill: Backfill, scored: str) -> None:
        done = backfill("report", scored)

        assert [line for line in done.stdout.splitlines() if len(line) > 80 and "Report of" not in line] == []
        assert f"Scores of run {scored}: " in done.stdout
        assert "scored by the host" in done.stdout
        assert "\x1b" not in done.stdout

    def test_are_json_with_the_documented_fields_and_write_no_page(self, backfill: Backfill, scored: str) -> None:
        found = backfill.json("report", scored)

        run = backfill.json("status", scored)
        whole = found["distribution"]["all"]
        classes = ("inserted", "requeued", "refreshed", "disqualified")
        assert whole["items"] == sum(run["counts"][name] for name in classes)
        assert whole["sources"]["disqualified"] == run["counts"]["disqualified"]
        assert sum(whole["results"].values()) + whole["without"] == whole["items"]
        assert sum(each["items"] for each in found["distribution"]["groups"]) == whole["items"]
        assert found["distribution"]["rest"] == run["counts"]["in_flight"]
        (row,) = re.findall(r"^\| `backfill report` \| (.*) \|$", PAGE, re.MULTILINE)
        names = {*found, *found["distribution"], *found["distribution"]["groups"][0]}
        assert names <= set(re.findall(r"`(\w+)`", row))
        assert list(backfill.directory.glob("*.html")) == []

    def test_that_cannot_be_counted_in_time_are_left_out_with_the_reason(
        self, backfill: Backfill, inhabited: Host, scored: str
    ) -> None:
        with inhabited.locked('"Lead"', "ACCESS EXCLUSIVE"):
            done = backfill.set(BACKFILL_STATEMENT_TIMEOUT_MS="500")("report", scored)

        assert done.stdout.startswith("The scores can't be counted now: ")
        assert done.returncode == 0
        page = (backfill.directory / f"report-{scored}.html").read_text(encoding="utf-8")
        assert "They couldn&#39;t be counted: " in page or "They couldn't be counted: " in page

    def test_as_json_and_as_a_page_contradict_each_other(self, backfill: Backfill, scored: str) -> None:
        assert_refused(backfill("report", scored, "--json", "-o", "report.html"))


class TestOutput:
    def test_defaults_to_a_file_named_after_the_run(self, alone: Backfill, run: str) -> None:
        alone("report")

        assert f"Run {run}" in (alone.directory / f"report-{run}.html").read_text(encoding="utf-8")

    def test_can_be_standard_output(self, alone: Backfill, run: str) -> None:
        done = alone("report", run, "-o", "-")

        assert done.stdout.startswith("<!DOCTYPE html>")
        assert done.stdout.endswith("</html>\n")
        assert list(alone.directory.glob("*.html")) == []

    def test_an_unwritable_path_is_refused(self, alone: Backfill, run: str) -> None:
        done = alone("report", run, "-o", "no-such-folder/report.html")

        assert_refused(done)
        assert "no-such-folder/report.html can't be written: No such file or directory" in done.stderr


def test_says_that_a_run_is_still_in_progress(alone: Backfill, run: str) -> None:
    page = alone("report", run, "-o", "-").stdout

    assert "still in progress at" in page
    assert "There is nothing to plot: no page was done or postponed." in page


def test_an_unknown_run_is_refused(alone: Backfill, run: str) -> None:
    assert run != NO_RUN
    assert_refused(alone("report", NO_RUN))


def test_is_refused_before_the_first_run(alone: Backfill) -> None:
    alone("init")

    done = alone("report")

    assert_refused(done)
    assert "there is no run yet" in done.stderr


@pytest.mark.usefixtures("run")
def test_contains_no_secrets(alone: Backfill) -> None:
    password = alone.database_url.split("://")[1].split("@")[0].partition(":")[2]

    page = alone("report", "-o", "-").stdout

    assert alone.database_url not in page
    assert not password or password not in page


@pytest.mark.usefixtures("run")
def test_needs_no_home_directory(alone: Backfill) -> None:
    done = alone.set(HOME="/proc/no-home")("report", "-o", "-")

    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.usefixtures("run")
def test_names_the_missing_libraries_to_install(alone: Backfill, tmp_path: Path) -> None:
    package = tmp_path / "hidden" / "matplotlib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError(\"No module named 'matplotlib'\")")

    done = alone.set(PYTHONPATH=str(package.parent))("report")

    assert_refused(done, status=1)
    assert done.stderr.endswith("(No module named 'matplotlib'): `pip install jinja2 matplotlib`\n")


def test_makes_an_existing_file_readable_by_its_owner_only(alone: Backfill) -> None:
    alone.json("run", "--apply", "--detach")
    file = alone.directory / "report.html"
    file.touch(mode=0o644)

    done = alone("report", "-o", str(file))

    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
