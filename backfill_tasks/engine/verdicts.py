"""What the ledger alone says of an item: in a sentence per run, and in one for all."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from backfill_tasks.engine.contract import Backfill
from backfill_tasks.engine.explanation import Fate, Now, Passage, Verdict, joined
from backfill_tasks.engine.model import RunId
from backfill_tasks.engine.states import HALTED

#: What the ledger knows of an item that a page passed without recording it.
_UNRECORDED = "the ledger doesn't record which items it took"


def moment(at: datetime) -> str:
    """Return a moment in UTC, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def place(passage: Passage) -> str:
    """Return where an item that no page has passed is, seen from a run."""
    match passage.place:
        case "before":
            return "before the key after which the run began (--cursor)"
        case "beyond":
            return "after the run's last lane: the table ended before it when the run began"
        case "between":
            return "in no lane: the checkpoint that the run continued had passed it"
        case "passed":
            return "passed, but the ledger doesn't have the page any more"
    if passage.lane_state in ("running", "paused", "cancelled"):
        return f"not passed: lane {passage.lane} hasn't come to it, and is {passage.lane_state}"
    return f"not passed: lane {passage.lane} stopped before it: {passage.lane_reason or passage.reason or 'failed'}"


def fate(passage: Passage) -> Fate:
    """Return what a page did with an item, as far as the ledger alone tells."""
    page = passage.page
    if page is None:
        return Fate((), place(passage))
    if passage.error is not None:
        return Fate(("quarantined",), f"in quarantine: {passage.error}")
    if not page.counts.get("read"):
        return Fate(("passed over",), "passed over: the page took no item at all")
    if passage.enqueued_at is not None:
        return Fate((), f"enqueued{' by a retry' if page.released_at else ''}")
    taken = [f"{number:,} {name}" for name, number in page.counts.items() if number and name != "read"]
    return Fate((), f"its page has {joined(taken, 'and')}; {_UNRECORDED}")


def verdict(backfill: Backfill, now: Now, passages: Sequence[Passage], fates: Mapping[RunId, Fate]) -> Verdict:
    """Return the verdict on an item whose backfill has none of its own."""
    if now.exists is False:
        return gone(passages)
    if not now.needed and now.would is not None:
        meaning = backfill.passed_over.get(now.would, now.would)
        return Verdict("nothing_to_do", f"A run would pass it over: {meaning}.")
    if not now.needed and now.exists is None:
        return Verdict("not_selected", "A run would not take it: it isn't there, or needs nothing.")
    return of_runs(backfill.name, passages, fates)


def gone(passages: Sequence[Passage]) -> Verdict:
    """Return the verdict on an item that isn't there any more."""
    for each in passages:
        if each.enqueued_at is not None:
            return Verdict(
                "gone", f"It is not in the database any more. Run {each.run} enqueued it on {moment(each.enqueued_at)}."
            )
        if each.error is not None:
            return Verdict(
                "gone",
                f"It is not in the database any more. It is still in quarantine of run {each.run}.",
                f"backfill retry {each.run}",
            )
    return Verdict("gone", "It is not in the database any more.")


def of_runs(backfill: str, passages: Sequence[Passage], fates: Mapping[RunId, Fate], *, scope: str = "") -> Verdict:
    """Return the verdict on an item that still needs a run, from what the runs did with it.

    Args:
        backfill: the backfill's name.
        passages: what the newest runs have to do with the item, newest first.
        fates: what the pages that passed it did with it.
        scope: options that restrict another run to the item's neighborhood.
    """
    again = f"backfill run {backfill} --apply{scope}"
    last = next((each for each in passages if each.error is not None or each.enqueued_at is not None), None)
    if last is not None and last.error is not None:
        said = f"Run {last.run} could not handle it and keeps it in quarantine: {last.error}."
        return Verdict("quarantined", said, f"backfill retry {last.run}")
    comes = next((each for each in passages if each.place == "ahead" and each.state in ("running", *HALTED)), None)
    if comes is not None:
        return _ahead(comes)
    if not passages:
        return Verdict("no_run", "No run has come to it: none has been started.", again)
    newest = next((each for each in passages if each.page), passages[0])
    said = fates[newest.run].said if newest.run in fates else place(newest)
    if newest.page is None:
        return Verdict("not_reached", f"Of run {newest.run} it is {said}.", again)
    at = moment(newest.page.at)
    return Verdict("passed", f"Run {newest.run} passed it on {at}, and it still needs a run: {said}.", again)


def _ahead(passage: Passage) -> Verdict:
    run, lane = passage.run, passage.lane
    if passage.state == "running" and passage.lane_state == "running":
        return Verdict("ahead", f"Lane {lane} of run {run} is on its way to it.", f"backfill watch {run}")
    why = passage.lane_reason if passage.lane_state == "failed" else passage.reason
    said = f"Lane {lane} of run {run} stopped before it, and the run is {passage.state}{f': {why}' if why else ''}."
    return Verdict("halted", said, f"backfill resume {run}")
