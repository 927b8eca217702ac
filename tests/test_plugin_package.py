"""A package that provides backfills: built as a wheel, installed alongside ours, and run by real workers."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from acceptance.exporter import Exporter
from harness import Backfill, Worker, end
from test_package import ROOT, called

pytestmark = pytest.mark.package

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-backfills"
version = "1.0"
dependencies = ["backfill"]

[project.entry-points."backfill.backfills"]
shout-companies = "acme_backfills:shout_companies"
digest-leads = "acme_backfills:digest_leads"
"""

MODULE = '''
"""Backfills of Acme's."""

import hashlib

from sqlalchemy import text

from backfill_tasks import Flag, Option, SqlBackfill, Texts

shout_companies = SqlBackfill(
    name="shout-companies",
    summary="write the names of companies in capitals",
    table="Lead",
    key="id",
    where='"companyName" <> upper("companyName") AND (:companies IS NULL OR "companyName" = ANY (:companies))',
    set='"companyName" = upper("companyName")',
    items="leads",
    options=(Option("companies", Texts(), "Only this company; repeatable.", flag="--company"),),
)


def digest(rows, connection, *, long):
    length = 64 if long else 8
    digests = [{"id": row.id, "digest": hashlib.sha256(row.companyName.encode()).hexdigest()[:length]} for row in rows]
    connection.execute(text('UPDATE "Lead" SET "industry" = :digest WHERE id = :id'), digests)


digest_leads = SqlBackfill(
    name="digest-leads",
    summary="put a digest of the company's name in its industry",
    table="Lead",
    key=("clientId", "id"),
    where='"industry" IS NULL',
    process=digest,
    items="leads",
    options=(Option("long", Flag(), "Write all of the digest.", default=False, variable="ACME_LONG", tunable=True),),
)
'''


@dataclass(frozen=True)
class Packages:
    """A virtual environment with our wheel and another package's."""

    programs: Path


def wheel(project: Path, folder: Path) -> Path:
    """Build a project's wheel."""
    called([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, project], cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    project = tmp_path_factory.mktemp("acme")
    (project / "pyproject.toml").write_text(PROJECT)
    (project / "acme_backfills.py").write_text(MODULE)
    wheels = [wheel(each, tmp_path_factory.mktemp("wheel")) for each in (ROOT, project)]
    environment = tmp_path_factory.mktemp("environment")
    called([sys.executable, "-m", "venv", "--without-pip", environment], cwd=environment)
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "--quiet", "install"]
    called([*pip, "--constraint", ROOT / "constraints.txt", *wheels], cwd=environment)
    return Packages(environment / "bin")


@pytest.fixture
def command(backfill: Backfill, installed: Packages) -> Backfill:
    """The installed command on a host whose leads have companies, with an index of their workspaces."""
    with psycopg.connect(backfill.database_url, autocommit=True) as connection:
        connection.execute("""UPDATE "Lead" SET "companyName" = 'Acme', "industry" = NULL""")
        connection.execute("""UPDATE "Lead" SET "companyName" = 'Initech' WHERE id = (SELECT min(id) FROM "Lead")""")
        connection.execute('CREATE INDEX ON "Lead" ("clientId", id)')
    return replace(backfill, programs=installed.programs)


def column(backfill: Backfill, query: str) -> list[object]:
    with psycopg.connect(backfill.database_url) as connection:
        return [row[0] for row in connection.execute(query.encode())]


def test_its_backfills_are_listed_with_their_options(command: Backfill) -> None:
    shown = " ".join(command("run", "--help").stdout.split())

    assert "shout-companies write the names of companies in capitals" in shown
    assert "digest-leads put a digest of the company's name in its industry" in shown
    assert "--company ID Only this company; repeatable." in shown
    assert "--long / --no-long Write all of the digest (default: off, or ACME_LONG)." in shown


def test_each_has_its_own_options_only(command: Backfill) -> None:
    refused = command("run", "digest-leads", "--company", "Acme")

    assert refused.returncode == 2
    assert "digest-leads has no --company" in refused.stderr
    assert command.json("run", "shout-companies", "--company", "Initech")["counts"]["read"] == 1


def test_a_variable_changes_the_default_of_an_option(command: Backfill) -> None:
    counted = command.set(ACME_LONG="true").json("run", "digest-leads")

    assert counted["parameters"]["long"] is True
    assert "ACME_LONG = true   (environment)" in command.set(ACME_LONG="true")("config").stdout


def test_a_key_without_an_index_is_refused_with_the_one_that_helps(command: Backfill) -> None:
    with psycopg.connect(command.database_url, autocommit=True) as connection:
        connection.execute('DROP INDEX "Lead_clientId_id_idx"')

    refused = command("run", "digest-leads")

    assert refused.returncode == 1
    assert 'CREATE INDEX CONCURRENTLY ON "public"."Lead" ("clientId", "id")' in refused.stderr


def test_workers_do_them_and_doctor_and_metrics_know_them(command: Backfill) -> None:
    leads = len(column(command, 'SELECT id FROM "Lead"'))
    worker = Worker.start(command, concurrency=2)
    try:
        checked = command("doctor").stdout
        shouted = command.json("run", "shout-companies", "--apply", "--limit", "300")
        digested = command.json("run", "digest-leads", "--apply", "--limit", "300", "--long", "--lanes", "3")
        exporter = Exporter.start(command)
        try:
            scrape = exporter.scrape()
        finally:
            end(exporter.process)
    finally:
        worker.stop()

    for name in ("shout-companies", "digest-leads"):
        assert f"{name}: this role has all rights on the host's tables" in checked
        assert f"{name}: pages read by index" in checked
        assert scrape("backfill_items_read_total", backfill=name) == leads
    assert (shouted["state"], shouted["counts"]["updated"]) == ("complete", leads)
    assert (digested["state"], digested["counts"]["processed"]) == ("complete", leads)
    assert column(command, 'SELECT DISTINCT "companyName" FROM "Lead" ORDER BY 1') == ["ACME", "INITECH"]
    assert column(command, 'SELECT DISTINCT length("industry") FROM "Lead"') == [64]
    assert all(command.json("verify", each["run_id"])["clean"] for each in (shouted, digested))
