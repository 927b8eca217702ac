"""`backfill report` writes a run's history as one page of HTML."""

import re
from pathlib import Path

import pytest
from acceptance.commands import assert_refused
from acceptance.host import Host
from harness import Backfill, wait_for

NO_RUN = "260101-000000-abcd"


@pytest.fixture
def run(alone: Backfill) -> str:
    """A run that no worker starts on."""
    return str(alone.json("run", "--apply", "--detach")["run_id"])


@pytest.mark.usefixtures("worker")
def test_tells_of_a_page_that_was_put_off_a_pause_and_a_quarantined_lead(backfill: Backfill, inhabited: Host) -> None:
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
    assert (done.stdout, done.stderr, done.returncode) == (f"Report of run {run}: report.html\n", "", 0)
    assert f">{ended['counts']['inserted']:,}</td>" in page
    assert f"({ended['jobs']:,} jobs at 0.01)" in page
    assert [name in re.findall(r"<text[^>]*>([^<]*)</text>", page) for name in ("max pending", "paused")] == [True] * 2
    assert "no room in the host&#39;s queue: 12 jobs wait" in page
    assert "max pending 12 -&gt; none" in page
    assert "paused by command" in page
    assert f"<code>{lead}</code>" in page
    assert "the host&#39;s function fault.refuse() raised an error (23514)" in page


class TestWhereItIsWritten:
    def test_is_a_file_with_the_run_s_name_in_the_working_directory(self, alone: Backfill, run: str) -> None:
        alone("report")

        assert f"Run {run}" in (alone.directory / f"report-{run}.html").read_text(encoding="utf-8")

    def test_may_be_standard_output(self, alone: Backfill, run: str) -> None:
        done = alone("report", run, "-o", "-")

        assert done.stdout.startswith("<!DOCTYPE html>")
        assert done.stdout.endswith("</html>\n")
        assert list(alone.directory.glob("*.html")) == []

    def test_that_can_not_be_written_to_is_refused(self, alone: Backfill, run: str) -> None:
        done = alone("report", run, "-o", "no-such-folder/report.html")

        assert_refused(done)
        assert "no-such-folder/report.html can't be written: No such file or directory" in done.stderr


def test_of_a_run_that_goes_on_says_so(alone: Backfill, run: str) -> None:
    page = alone("report", run, "-o", "-").stdout

    assert "still in progress at" in page
    assert "There is nothing to plot: no page was done or postponed." in page


def test_of_a_run_that_there_is_not_is_refused(alone: Backfill, run: str) -> None:
    assert run != NO_RUN
    assert_refused(alone("report", NO_RUN))


def test_before_the_first_run_says_that_there_is_none(alone: Backfill) -> None:
    alone("init")

    done = alone("report")

    assert_refused(done)
    assert "there is no run yet" in done.stderr


@pytest.mark.usefixtures("run")
def test_has_no_secret(alone: Backfill) -> None:
    password = alone.database_url.split("://")[1].split("@")[0].partition(":")[2]

    page = alone("report", "-o", "-").stdout

    assert alone.database_url not in page
    assert not password or password not in page


@pytest.mark.usefixtures("run")
def test_needs_no_home(alone: Backfill) -> None:
    done = alone.set(HOME="/proc/no-home")("report", "-o", "-")

    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.usefixtures("run")
def test_without_its_libraries_says_what_to_install(alone: Backfill, tmp_path: Path) -> None:
    package = tmp_path / "hidden" / "matplotlib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError(\"No module named 'matplotlib'\")")

    done = alone.set(PYTHONPATH=str(package.parent))("report")

    assert_refused(done, status=1)
    assert done.stderr.endswith("(No module named 'matplotlib'): `pip install jinja2 matplotlib`\n")


def test_only_its_owner_can_read_the_file_even_where_it_was_open_before(alone: Backfill) -> None:
    alone.json("run", "--apply", "--detach")
    file = alone.directory / "report.html"
    file.touch(mode=0o644)

    done = alone("report", "-o", str(file))

    assert done.returncode == 0, done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
