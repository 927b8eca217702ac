"""Backfills of other packages for an operator: listed, checked and run like our own; if they fail, they fail alone."""

import os

import packages
import pytest
from acceptance.commands import assert_refused
from acceptance.host import Host
from harness import Backfill, Worker

SOURCE = """
from backfill_tasks import Flag, Option, SqlBackfill, Text, Whole

backfill = SqlBackfill(
    name="mark-leads",
    summary="mark the leads of a company as old",
    table="Lead",
    key="id",
    where='"status" IS DISTINCT FROM \\'old\\' AND (:company IS NULL OR "companyName" = :company)',
    set="\\"status\\" = 'old'",
    items="leads",
    options=(
        Option("company", Text(), "Only of this company.", default="Acme"),
        Option("least", Whole(1, 9), "A number", default=3, variable="ACME_LEAST", tunable=True),
        Option("loudly", Flag(), "Whether to say so.", default=True),
    ),
)
"""


def with_package(backfill: Backfill, package: str, name: str, source: str) -> Backfill:
    """Return the command, and the workers it starts, with a package that provides a backfill."""
    folder = backfill.directory / "packages"
    folder.mkdir(exist_ok=True)
    module = package.replace("-", "_")
    packages.install(folder, package, {name: f"{module}:backfill"}, **{module: source})
    return backfill.set(
        PYTHONPATH=os.pathsep.join([str(folder), *filter(None, [backfill.environment.get("PYTHONPATH")])])
    )


@pytest.fixture
def plugged(alone: Backfill) -> Backfill:
    return with_package(alone, "acme-backfills", "mark-leads", SOURCE)


class TestAPlugIn:
    def test_run_lists_it_with_its_own_options(self, plugged: Backfill) -> None:
        shown = " ".join(plugged("run", "--help").stdout.split())

        assert "mark-leads mark the leads of a company as old" in shown
        assert "--company ID Only of this company (default: Acme)." in shown
        assert "--least N A number (default: 3, or ACME_LEAST)." in shown
        assert "--loudly / --no-loudly Whether to say so (default: on)." in shown

    def test_doctor_looks_at_its_tables_and_its_plan(self, plugged: Backfill) -> None:
        done = plugged("doctor")

        assert "Traceback" not in done.stderr
        assert "mark-leads: this role has all rights on the host's tables" in done.stdout
        assert "mark-leads: pages read by index" in done.stdout

    def test_an_option_of_another_backfill_is_refused(self, plugged: Backfill) -> None:
        done = plugged("run", "--company", "Acme")

        assert_refused(done)
        assert "lead-scoring has no --company: remove it" in done.stderr

    def test_its_options_decide_what_is_counted(self, plugged: Backfill, inhabited: Host) -> None:
        (total,) = inhabited.column('SELECT count(*) FROM "Lead"')
        inhabited.execute("""UPDATE "Lead" SET "companyName" = 'Initech' WHERE id = (SELECT min(id) FROM "Lead")""")

        counted = plugged.json("run", "mark-leads", "--company", "Initech")

        assert (counted["counts"]["read"], counted["counts"]["up_to_date"]) == (1, total - 1)
        assert counted["parameters"]["company"] == "Initech"

    def test_its_variable_changes_the_default_and_the_flag_wins(self, plugged: Backfill) -> None:
        from_the_environment = plugged.set(ACME_LEAST="5")

        assert plugged.json("run", "mark-leads")["parameters"]["least"] == 3
        assert from_the_environment.json("run", "mark-leads")["parameters"]["least"] == 5
        assert from_the_environment.json("run", "mark-leads", "--least", "7")["parameters"]["least"] == 7

    def test_config_lists_its_variable(self, plugged: Backfill) -> None:
        assert "ACME_LEAST = 3   (default)" in plugged("config").stdout
        assert "ACME_LEAST = 5   (environment)\n    A number\n" in plugged.set(ACME_LEAST="5")("config").stdout

    def test_a_variable_with_an_invalid_value_is_refused(self, plugged: Backfill) -> None:
        wrong = plugged.set(ACME_LEAST="50")

        assert_refused(wrong("run", "mark-leads"))
        assert "WRONG: ACME_LEAST: '50' is not a whole number from 1 to 9" in wrong("config").stdout

    def test_tune_changes_its_option_in_its_own_runs_only(self, plugged: Backfill) -> None:
        run = plugged.json("run", "mark-leads", "--apply", "--detach")["run_id"]
        other = plugged.json("run", "lead-scoring", "--apply", "--detach")["run_id"]

        done, refused = plugged("tune", run, "--least", "4"), plugged("tune", other, "--least", "4")

        assert done.stdout == f"Run {run}: least 3 -> 4\n"
        assert "least 3 -> 4" in plugged("events", run).stdout
        assert_refused(refused)
        assert "lead-scoring has no --least: remove it" in refused.stderr

    def test_a_run_whose_package_is_gone_says_so_in_a_line(self, plugged: Backfill, alone: Backfill) -> None:
        run = plugged.json("run", "mark-leads", "--apply", "--detach")["run_id"]

        done = alone("status", run)

        assert done.returncode == 2
        assert "no package brings a backfill 'mark-leads'" in done.stderr
        assert done.stderr.count("\n") == 1
        assert [each["run_id"] for each in alone.json("runs")["runs"]] == [run]
        assert alone("cancel", run).returncode == 0


class TestABrokenPlugIn:
    @pytest.fixture
    def broken(self, plugged: Backfill) -> Backfill:
        return with_package(plugged, "bad-backfills", "broken", "import nothing_like_it")

    def test_doctor_names_it_in_a_line(self, broken: Backfill) -> None:
        shown = " ".join(broken("doctor").stdout.split())

        assert "WRONG the backfill broken of bad-backfills 1.0 (bad_backfills:backfill) can't be loaded: " in shown
        assert "mark-leads: pages read by index" in shown
        assert "lead-scoring: this role has all rights on the host's tables" in shown

    def test_others_run_beside_it(self, broken: Backfill) -> None:
        assert broken.json("run")["state"] == "complete"
        assert broken.json("run", "mark-leads")["state"] == "complete"

    def test_it_is_refused_itself(self, broken: Backfill) -> None:
        done = broken("run", "broken")

        assert_refused(done)
        assert "the backfill broken of bad-backfills 1.0" in done.stderr


def test_doctor_shows_an_error_in_the_statement_after_the_locks(alone: Backfill) -> None:
    apply = """apply='UPDATE "Lead" SET "none" = 1 FROM page WHERE "Lead".id = page.id'"""
    source = SOURCE.replace("""set="\\"status\\" = 'old'\"""", apply)

    shown = " ".join(with_package(alone, "acme-backfills", "mark-leads", source)("doctor").stdout.split())

    assert "WRONG mark-leads: a page's plan can't be seen: column \"none\"" in shown


def test_workers_do_a_plug_ins_pages(plugged: Backfill, inhabited: Host) -> None:
    (total,) = inhabited.column('SELECT count(*) FROM "Lead"')
    inhabited.execute("""UPDATE "Lead" SET "companyName" = 'Acme'""")
    worker = Worker.start(plugged, concurrency=1)
    try:
        canary = plugged.json("run", "mark-leads", "--apply", "--canary", "--limit", "300", status=4)
        done = plugged.json("run", "mark-leads", "--resume")
        watched = plugged("watch", done["run_id"])
        report = plugged("report", done["run_id"], "--output", "report.html")
    finally:
        worker.stop()

    assert (canary["state"], canary["counts"]["updated"]) == ("paused", 300)
    assert (done["state"], done["counts"]["updated"]) == ("complete", total)
    assert watched.returncode == report.returncode == 0
    assert plugged.json("verify", done["run_id"])["clean"]
    assert plugged.json("verify", done["run_id"], "--full")["clean"]
