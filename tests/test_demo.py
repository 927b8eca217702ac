"""`make demo`: unscored leads become scored leads, and the demo checks that itself."""

import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from sandbox.demo import host

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
LEADS = 600


def numbers(pattern: str, text: str) -> list[int]:
    """Return the numbers in the first match of a pattern."""
    found = re.search(pattern, text)
    assert found, f"{pattern} is not in:\n{text}"
    return [int(each.replace(",", "")) for each in found.groups()]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "report.html"


@pytest.fixture(scope="module")
def said(report: Path) -> str:
    """The output of a demo with few leads, which ended well."""
    command = [sys.executable, "-m", "sandbox.demo", "--leads", str(LEADS), "--report", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_eligible_lead_ends_with_a_score(said: str) -> None:
    (needed,) = numbers(r"([\d,]+) need a score", said)
    eligible, disqualified = numbers(r"All ([\d,]+) eligible leads have a score; the ([\d,]+) disqualified", said)

    assert eligible == needed > disqualified > 0
    assert "No other lead has changed, and no job of the backfill is left." in said
    assert "Clean: no leads are missing, and no count is contradicted." in said


def test_the_scores_are_drawn_for_every_workspace(said: str) -> None:
    leads, workspaces = numbers(r"Scores of run \S+: ([\d,]+) leads in ([\d,]+) workspaces", said)
    drawn = said.partition("░ 1")[2].partition("==")[0]

    (left_alone,) = numbers(r"([\d,]+) more leads that the run has read", said)
    assert leads + left_alone == numbers(r"All ([\d,]+) eligible", said)[0]
    assert len(re.findall(r"^  [0-9a-f-]{36} .*[░▒▓█]$", drawn, re.MULTILINE)) == workspaces
    bars = [numbers(rf"(?m)^  {score} +([\d,]+)", said)[0] for score in range(1, 5)]
    assert (sum(bars), min(bars) > 0) == (leads, True)


def test_the_report_shows_the_scores(said: str, report: Path) -> None:
    (leads,) = numbers(r"Scores of run \S+: ([\d,]+) leads", said)

    page = report.read_text(encoding="utf-8")

    assert '<h2 id="results">Scores</h2>' in page
    counts = re.findall(r'<th scope="row">[1-4]</th><td class="number">([\d,]+)</td>', page)
    assert sum(int(each.replace(",", "")) for each in counts) == leads


def test_every_line_fits_in_80_columns(said: str, report: Path) -> None:
    assert [line for line in said.splitlines() if len(line) > 80 and str(report) not in line] == []


LEAD = 'UPDATE "Lead" SET {change} WHERE id = (SELECT id FROM demo.lead WHERE {which} LIMIT 1)'
JOBS = "UPDATE \"BackgroundJob\" SET status = '{status}' WHERE starts_with(\"dedupeKey\", 'lead_scoring_backfill:')"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (
            LEAD.format(change='"overallScore" = NULL', which="eligible AND NOT disqualified"),
            "1 eligible leads have no score",
        ),
        (
            LEAD.format(change='"overallScore" = 2', which="eligible AND disqualified"),
            "1 disqualified leads have a score",
        ),
        (LEAD.format(change='"updatedAt" = now()', which="NOT eligible AND NOT has_job"), "1 leads were changed"),
        (JOBS.format(status="PENDING"), "jobs of the backfill have not ended"),
    ],
)
def test_the_check_at_the_end_finds_what_is_wrong(empty_database: str, harm: str, says: str) -> None:
    host.prepare(empty_database, 100)
    with psycopg.connect(empty_database, autocommit=True) as connection:
        scored = 'UPDATE "Lead" SET "overallScore" = 1 WHERE id IN (SELECT id FROM demo.lead WHERE eligible)'
        connection.execute(scored)
        connection.execute(JOBS.format(status="SUCCEEDED").encode())
        assert host.check(empty_database).faults == []

        connection.execute(harm.encode())

    (fault,) = host.check(empty_database).faults
    assert says in fault
