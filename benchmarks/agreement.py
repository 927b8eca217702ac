"""How well a scorer agrees with the labels of a sample of conversations, against two trivial baselines.

    python -m benchmarks.agreement [--scorer NAME] [--wrong]

The sample, the labels and how they were given: docs/scorers.md. Nothing but the scorer's own work goes over a network.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from backfill_tasks.scoring.contract import HIGHEST, LOWEST, Conversation, Line, Score, Scorer, Workspace

FOLDER = Path(__file__).parent / "labelled"
#: The parts of the sample: the rules were tuned on the first only; the third was written when they were finished.
TUNE, HELD_OUT, FRESH = "tune", "held out", "fresh"

_SCALE = range(LOWEST, HIGHEST + 1)

#: The words that the second baseline counts.
_FOR = ("interested", "yes", "call", "price", "pricing", "demo", "meeting", "send", "cost", "quote", "great")
_AGAINST = ("not", "no", "remove", "stop", "unsubscribe", "don't", "never")


@dataclass(frozen=True)
class Labelled:
    """One conversation of the sample with its labels."""

    number: int
    part: str
    conversation: Conversation
    fit: int
    intent: int
    overall: int


@dataclass(frozen=True)
class Agreement:
    """Pairs of a label and what was said instead."""

    pairs: Sequence[tuple[int, int]]

    @property
    def exact(self) -> float:
        """The share that is the same."""
        return self._share(0)

    @property
    def within_one(self) -> float:
        """The share that is at most one off."""
        return self._share(1)

    @property
    def confusion(self) -> list[list[int]]:
        """How often each label (row) got each score (column)."""
        counts = Counter(self.pairs)
        return [[counts[label, said] for said in _SCALE] for label in _SCALE]

    def _share(self, off: int) -> float:
        return sum(abs(label - said) <= off for label, said in self.pairs) / len(self.pairs)


def sample() -> list[Labelled]:
    """Return the labelled conversations."""
    workspaces = json.loads((FOLDER / "workspaces.json").read_text(encoding="utf-8"))
    lines = (FOLDER / "conversations.jsonl").read_text(encoding="utf-8").splitlines()
    return [_labelled(json.loads(line), workspaces) for line in lines]


def _labelled(row: Mapping[str, Any], workspaces: Mapping[str, Any]) -> Labelled:
    about = workspaces[row["workspace"]]
    said = tuple(Line(inbound=who == "lead", text=text) for who, text in row["messages"])
    return Labelled(
        row["id"],
        row["part"],
        Conversation(
            job=f"job-{row['id']}",
            workspace=Workspace(
                row["workspace"],
                about["company_name"],
                about["ideal_customer_profile"],
                about["service_description"],
                tuple(about["qualification_questions"]),
            ),
            lines=said,
            transcript="\n\n".join(f"[{'Lead' if each.inbound else 'Us'}] {each.text}" for each in said),
            company_name=row["company"],
            industry=row["industry"],
            employee_headcount=row["employees"],
        ),
        row["fit"],
        row["intent"],
        row["overall"],
    )


def majority(_: Conversation) -> int:
    """Return 2, the host's score for all that is uncertain or cold."""
    return 2


def keyword_count(conversation: Conversation) -> int:
    """Count words for and against, quoted mail and all."""
    said = " ".join(each.text.lower() for each in conversation.lines if each.inbound)
    balance = sum(said.count(each) for each in _FOR) - sum(said.count(each) for each in _AGAINST)
    return min(HIGHEST, max(LOWEST, 2 + balance))


def agreement(of: Sequence[Labelled], said: Callable[[Labelled], int]) -> Agreement:
    """Compare the overall labels with what was said."""
    return Agreement([(each.overall, said(each)) for each in of])


async def scored(scorer: Scorer, of: Sequence[Labelled]) -> dict[int, Score]:
    """Return the scores by the conversation's number; what a scorer leaves unscored is missing."""
    async with scorer.opened() as opened:
        found = {each.number: await opened.score(each.conversation) for each in of}
    return {number: score for number, score in found.items() if isinstance(score, Score)}


def report(scorer: Scorer) -> Iterator[str]:
    """Yield the lines of the report."""
    everything = sample()
    scores = asyncio.run(scored(scorer, everything))
    everything = [each for each in everything if each.number in scores]
    judges: dict[str, Callable[[Labelled], int]] = {
        scorer.name: lambda it: scores[it.number].overall,
        "keyword count": lambda it: keyword_count(it.conversation),
        "always 2": lambda it: majority(it.conversation),
    }
    tune, held_out, fresh = (_of(everything, each) for each in (TUNE, HELD_OUT, FRESH))
    parts = {HELD_OUT: held_out, TUNE: tune, "both": [*held_out, *tune], FRESH: fresh}
    yield f"{'overall score':<16}" + "".join(f"{name + f' ({len(of)})':>24}" for name, of in parts.items())
    yield f"{'':<16}" + f"{'exact':>12}{'within 1':>12}" * len(parts)
    for name, judge in judges.items():
        found = [agreement(of, judge) for of in parts.values()]
        yield f"{name:<16}" + "".join(f"{each.exact:>12.0%}{each.within_one:>12.0%}" for each in found)
    for aspect in ("fit", "intent"):
        pairs = [
            [(getattr(each, aspect), getattr(scores[each.number], aspect)) for each in of] for of in parts.values()
        ]
        found = [Agreement(each) for each in pairs]
        yield f"{f'its {aspect}':<16}" + "".join(f"{each.exact:>12.0%}{each.within_one:>12.0%}" for each in found)
    for name, of in parts.items():
        yield ""
        yield f"{name}: label (row), score (column)  " + "".join(f"{each:>5}" for each in _SCALE)
        for label, row in zip(_SCALE, agreement(of, judges[scorer.name]).confusion, strict=True):
            yield f"{label:>35}" + "".join(f"{count:>5}" for count in row)


def wrong(scorer: Scorer, part: str) -> Iterator[str]:
    """Yield the conversations of a part that the scorer and the label differ on."""
    of = _of(sample(), part)
    scores = asyncio.run(scored(scorer, of))
    for each in of:
        said = scores.get(each.number)
        if said is None or said.overall != each.overall:
            text = each.conversation.lines[-1].text.replace("\n", " / ")
            yield f"{each.number:>4} {each.fit}{each.intent}{each.overall} {said and said.reasoning}: {text[:120]}"


def _of(everything: Sequence[Labelled], part: str) -> list[Labelled]:
    return [each for each in everything if each.part == part]


def _scorer(name: str) -> Scorer:
    [entry] = entry_points(group="backfill.scorers", name=name)
    made = entry.load()
    found = made() if isinstance(made, type) else made
    assert isinstance(found, Scorer)  # noqa: S101  the entry point's contract
    return found


def main(arguments: Sequence[str]) -> None:
    """Print the report, or the conversations of the tuning part that the scorer gets wrong."""
    parser = argparse.ArgumentParser(description="Compare a scorer with labelled conversations.")
    parser.add_argument("--scorer", default="rules", help="its entry point (default: rules)")
    parser.add_argument("--wrong", action="store_true", help="list the tuning part's differences instead")
    given = parser.parse_args(arguments)
    scorer = _scorer(given.scorer)
    for line in wrong(scorer, TUNE) if given.wrong else report(scorer):
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
