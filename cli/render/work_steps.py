"""What a scoring session's state means, and what an operator may type next."""

from collections.abc import Iterator

from backfill_tasks.cli.render.next_steps import step
from backfill_tasks.cli.render.text import wrapped
from backfill_tasks.scoring.sessions import Session


def next_steps(session: Session, queue: str) -> list[str]:
    """Return what the state means for the jobs, and the next command. `queue`: where workers get batches."""
    return list(_lines(session, queue))


def _lines(session: Session, queue: str) -> Iterator[str]:
    again = f"backfill work --scorer {session.scorer}"
    match session.state:
        case "complete":
            yield from step("backfill verify", "checks the leads of the newest run")
        case "exhausted":
            yield wrapped("The jobs that are left wait, untried, and come due for the host's runner.", indent=0)
            yield from step(f"{again} --max-spend AMOUNT", "scores them with another budget")
        case "stopped":
            yield wrapped("The jobs that are left wait, and come due for the host's runner.", indent=0)
            paid = "" if session.max_spend is None else " --max-spend AMOUNT"
            yield from step(f"{again}{paid}", "scores them here")
        case "running" if not session.alive:
            yield wrapped(
                "No worker takes its batches, so nothing is scored here. The jobs wait; those that are due go to the"
                " host's runner. A worker that starts goes on with the session.",
                indent=0,
            )
            yield from step(f"backfill worker -Q {queue}", "takes batches")
        case "running" if any(reason.startswith("requests fail") for reason in session.reasons):
            yield wrapped(
                "One job at a time is tried, at least once a minute, until a request succeeds. Then scoring goes on by"
                " itself.",
                indent=0,
            )
            yield from step("backfill work --stop", "leaves the jobs to the host's runner")
        case "running":
            return
