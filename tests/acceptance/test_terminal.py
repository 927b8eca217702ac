"""The command on a terminal: the plan and question of `--apply`, and the live progress."""

import pytest
from acceptance.commands import OpenTerminal, redis_contents
from acceptance.host import Host
from harness import Backfill, Worker
from long_forms import long
from psycopg.conninfo import conninfo_to_dict

QUESTION = "Start? [y/N]:"
CTRL_C = "\x03"


def test_apply_shows_counts_target_and_expected_time_before_asking(
    alone: Backfill, inhabited: Host, open_terminal: OpenTerminal
) -> None:
    terminal = open_terminal(alone, "run", "--apply")

    terminal.wait_for(QUESTION)

    where = conninfo_to_dict(inhabited.url)
    sample = inhabited.sample
    assert f"This run will write to {where['dbname']} on {where['host']}:{where['port']}:" in terminal.shown
    assert f"{sample.eligible}\n" in terminal.shown
    assert [
        count
        for count in (
            f"{sample.inserted}   job created",
            f"{sample.requeued}   job had ended",
            f"{sample.disqualified}   scored 1, no job",
            f"{sample.scored}   have a score",
            f"{sample.no_inbound}   never wrote to us",
        )
        if count not in terminal.shown
    ] == []
    assert "last score" in terminal.shown


@pytest.mark.parametrize("answer", [CTRL_C, *long("n\n", "\n")], ids=["no", "enter", "Ctrl-C"])
def test_any_answer_but_yes_starts_nothing(
    alone: Backfill, inhabited: Host, open_terminal: OpenTerminal, answer: str
) -> None:
    before = inhabited.contents()
    terminal = open_terminal(alone, "run", "--apply")
    terminal.wait_for(QUESTION)

    terminal.type(answer)

    assert terminal.end() == 4
    assert "stopped before a run was started" in terminal.shown
    assert inhabited.contents() == before
    assert redis_contents(alone) == {}


def test_yes_starts_and_follows_the_run(
    backfill: Backfill, worker: Worker, inhabited: Host, open_terminal: OpenTerminal
) -> None:
    terminal = open_terminal(backfill, "run", "--apply", "--limit", "50")
    terminal.wait_for(QUESTION)

    terminal.type("y\n")

    assert terminal.end() == 0
    assert "Next: backfill verify" in terminal.shown
    assert inhabited.changed() == inhabited.due()


def test_the_yes_option_skips_the_question(alone: Backfill, open_terminal: OpenTerminal) -> None:
    terminal = open_terminal(alone, "run", "--apply", "--yes", "--detach")

    assert terminal.end() == 0
    assert QUESTION not in terminal.shown


def test_a_dry_run_asks_nothing(alone: Backfill, open_terminal: OpenTerminal) -> None:
    terminal = open_terminal(alone, "run")

    assert terminal.end() == 0
    assert QUESTION not in terminal.shown


def test_ctrl_c_detaches_and_says_so(alone: Backfill, inhabited: Host, open_terminal: OpenTerminal) -> None:
    terminal = open_terminal(alone, "run", "--apply", "--yes")
    terminal.wait_for("lane  state")

    terminal.type(CTRL_C)

    assert terminal.end() == 4
    assert "Detached. The run continues." in terminal.shown
    assert inhabited.column("SELECT state FROM backfill.run") == ["running"]


def test_the_progress_shows_the_percentage_done(
    backfill: Backfill, worker: Worker, open_terminal: OpenTerminal
) -> None:
    terminal = open_terminal(backfill, "run", "--apply", "--lanes", "1", "--limit", "75", "--page-delay-ms", "600000")
    terminal.wait_for(QUESTION)

    terminal.type("y\n")

    terminal.wait_for("░   8%  64 of 724 leads")


def test_watch_shows_why_a_run_is_stalled(alone: Backfill, inhabited: Host, open_terminal: OpenTerminal) -> None:
    alone("run", "--apply", "--detach")
    inhabited.execute("UPDATE backfill.lane SET moved_at = now() - interval '1 hour'")

    terminal = open_terminal(alone, "watch")

    terminal.wait_for("no worker is online, and its page waits in the queue")


def test_watch_explains_small_pages(alone: Backfill, inhabited: Host, open_terminal: OpenTerminal) -> None:
    alone("run", "--apply", "--detach")

    with inhabited.at_work():
        terminal = open_terminal(alone.set(BACKFILL_BUSY_LIMIT="50"), "watch")

        terminal.wait_for("one page at a time, of at most 50 items: 1 other session is active")


def test_an_escape_sequence_in_an_argument_is_escaped(backfill: Backfill) -> None:
    assert backfill("init").returncode == 0

    done = backfill("status", "\x1b]52;c;cm0gLXJm\x07\nbackfill: all is well")

    assert "\x1b" not in done.stderr
    assert "\\u001b]52;c;" in done.stderr
    assert len(done.stderr.splitlines()) == 1
