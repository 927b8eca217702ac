"""The command `why`: one screen, one line for bad input, JSON as documented."""

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from acceptance.commands import assert_refused, backfill_against
from acceptance.host import make_host
from harness import Backfill

from sandbox.servers import Redis

#: Ids that a shell or a terminal may get wrong, and one as long as an index allows.
ODD = ("it's", "-x", "--json", "线索 1", "a\x1b[31mb", "x" * 2000)

LEAD = """
INSERT INTO "Lead" (id, "clientId", "firstName", email, "updatedAt")
SELECT %(id)s, id, 'Ann', 'ann@example.org', now() FROM "Client" LIMIT 1
"""


@pytest.fixture(scope="module")
def asked(
    make_database: Callable[..., str], deserted_broker: Redis, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Backfill, list[str]]:
    """The command on a host with many runs without a worker, and some of its leads; no test changes them."""
    host = make_host(make_database(), 100)
    with psycopg.connect(host.url) as connection:
        for lead in ODD:
            connection.execute(LEAD, {"id": lead})
    command = backfill_against(tmp_path_factory.mktemp("why"), host.url, deserted_broker.url)
    for _ in range(8):
        assert command("run", "--apply", "--detach", "--force").returncode == 0
    return command, [*host.column("""SELECT id FROM "Lead" WHERE id ~ '^[0-9a-f]{8}-' ORDER BY id LIMIT 6"""), *ODD]


def test_answer_fits_on_one_screen(asked: tuple[Backfill, list[str]]) -> None:
    command, leads = asked
    for lead in leads:
        done = command("why", "--", lead)

        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert len(lines) <= 23
        assert max(map(len, lines)) <= 80
        assert lines[1]
        assert "\x1b" not in done.stdout
        assert "Ann" not in done.stdout
        assert "example.org" not in done.stdout


def test_json_has_the_documented_fields(asked: tuple[Backfill, list[str]]) -> None:
    command, (lead, *_) = asked

    found = command.json("why", lead)

    assert set(found) == fields("One item")
    assert set(found["runs"][0]) == fields("What one run did with it")
    assert set(found["facts"]) == fields("The facts of a lead")
    assert found["item"] == lead
    assert len(found["runs"]) == 8


def test_other_backfill_is_chosen_by_name(asked: tuple[Backfill, list[str]]) -> None:
    command, (lead, *_) = asked

    assert command.json("why", "--backfill", "message-rollups", lead)["backfill"] == "message-rollups"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none-such"], "none of the leads has the id 'none-such', and no run has recorded it"),
        ([""], "none of the leads has an empty id, and no run has recorded it"),
        (["a\x1b]b"], "none of the leads has the id 'a\\x1b]b', and no run has recorded it"),
        (["\udce9"], "is not UTF-8 text"),
        (["lead", "--backfill", "none-such"], "no package provides a backfill 'none-such'"),
    ],
)
def test_bad_input_is_refused_in_one_line(asked: tuple[Backfill, list[str]], words: list[str], said: str) -> None:
    done = asked[0]("why", *words)

    assert_refused(done)
    assert said in done.stderr


PAGE = (Path(__file__).parents[2] / "docs/reference/json.md").read_text(encoding="utf-8")


def fields(heading: str) -> set[str]:
    """Return the fields in the table right below a heading."""
    section = re.split(r"\n##+ ", PAGE.split(f"# {heading}\n")[1])[0]
    return set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))
