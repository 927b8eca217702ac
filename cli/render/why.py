"""The answer of `backfill why`, on one screen."""

from collections.abc import Iterator

from backfill_tasks.cli.render.text import moment, shortened, wrapped
from backfill_tasks.engine.explanation import Passage
from backfill_tasks.engine.verdicts import place
from backfill_tasks.engine.why import Answer
from backfill_tasks.escaping import one_line

#: The height of a screen, less the prompt's line.
_HEIGHT = 23

#: The width of the names in front of the texts.
_NAMES = 12

#: The longest texts, in characters.
_MOST_ID, _MOST_VERDICT, _MOST_FACT, _MOST_FATE = 60, 300, 140, 220


def answer(found: Answer) -> str:
    """Return the verdict, what to type next, what the tables have, and the runs, newest first.

    The oldest runs are left out if the screen is full.
    """
    lines = [
        f"{found.backfill} · {shortened(found.now.item, _MOST_ID) or '(an empty id)'}",
        *wrapped(shortened(found.verdict.said, _MOST_VERDICT), indent=0).splitlines(),
        *([f"Next: {one_line(found.verdict.next)}"] if found.verdict.next else []),
        "",
        *(line for name, text in found.explanation.lines for line in _named(name, shortened(text, _MOST_FACT))),
    ]
    if not found.passages:
        return "\n".join([*lines, *_named("runs", "none yet")])
    return "\n".join([*lines, *_runs(found, _HEIGHT - len(lines))])


def _runs(found: Answer, room: int) -> Iterator[str]:
    """Yield as many runs as there is room for, and always the newest; then how many more there are."""
    for number, passage in enumerate(found.passages):
        lines = list(_run(found, passage))
        left = len(found.passages) - number + found.older_runs
        if number and room < len(lines) + (left > 1):
            yield f"  and {left:,} more: --json has the newest {len(found.passages)} runs"
            return
        room -= len(lines)
        yield from lines
    if found.older_runs:
        yield f"  and {found.older_runs:,} more, older than those that `why` looks at"


def _run(found: Answer, passage: Passage) -> Iterator[str]:
    fate, page = found.fates.get(passage.run), passage.page
    where = [f"lane {passage.lane}"] if passage.lane is not None else []
    where += [f"page {page.number}", moment(page.at)] if page else []
    yield " · ".join(["  run " + passage.run, passage.state, *where])
    yield from wrapped(shortened(fate.said if fate else place(passage), _MOST_FATE), indent=_NAMES + 2).splitlines()


def _named(name: str, text: str) -> list[str]:
    return wrapped(text, indent=_NAMES + 2, first=f"  {name:<{_NAMES}}").splitlines()
