"""The exit status of a run that doesn't end well: 1 failed, 3 quarantined, 4 not complete."""

from acceptance.commands import OpenTerminal
from acceptance.host import Host
from harness import Backfill, Worker


def test_1_when_a_lane_can_t_go_on_and_says_why(backfill: Backfill, worker: Worker, inhabited: Host) -> None:
    inhabited.refuse_job_of(inhabited.lead_without_job(), sqlstate="42501")

    done = backfill("run", "--apply")

    assert done.returncode == 1
    assert "the host's function fault.refuse() raised an error (42501)" in done.stdout
    assert "backfill resume" in done.stdout.splitlines()[-1]


def test_3_when_a_lead_is_quarantined_and_says_which_and_why(
    backfill: Backfill, worker: Worker, inhabited: Host
) -> None:
    lead = inhabited.lead_without_job()
    inhabited.refuse_job_of(lead, sqlstate="23514")

    done = backfill("run", "--apply")

    assert done.returncode == 3
    assert f"{lead}\n        the host's function fault.refuse() raised an error (23514)\n" in done.stdout
    assert inhabited.changed() == inhabited.due() - {lead}


def test_4_when_the_run_is_paused_while_it_is_followed(
    backfill: Backfill, worker: Worker, inhabited: Host, open_terminal: OpenTerminal
) -> None:
    terminal = open_terminal(backfill, "run", "--apply", "--yes", "--limit", "20", "--page-delay-ms", "600000")
    inhabited.wait_for_pages(2)

    backfill("pause", backfill.json("status")["run_id"])

    assert terminal.end() == 4
    assert "paused by command" in terminal.shown


def test_4_when_the_run_is_cancelled_while_it_is_followed(
    alone: Backfill, inhabited: Host, open_terminal: OpenTerminal
) -> None:
    terminal = open_terminal(alone, "run", "--apply", "--yes")
    inhabited.wait_for_a_run()

    alone("cancel", alone.json("status")["run_id"])

    assert terminal.end() == 4
    assert "Finished pages stay done." in terminal.shown
