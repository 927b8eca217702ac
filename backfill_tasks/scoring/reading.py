"""Reads the conversations of claimed jobs: workspace, lead and messages, for a whole batch in one statement."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from backfill_tasks.scoring import prompt_overrides
from backfill_tasks.scoring.claims import Job, Result
from backfill_tasks.scoring.contract import LOWEST, Conversation, Line, PromptOverride, Score, Workspace
from backfill_tasks.scoring.jobs import DISQUALIFIED_REASONING, DISQUALIFYING
from backfill_tasks.scoring.statements import file, prepare

#: The host's limits: how many messages it reads, and how many characters of the transcript it uses.
_MESSAGES = 60
_CHARACTERS = 24_000


@dataclass(frozen=True)
class Disqualified:
    """A lead with a disqualifying tag: it gets the lowest score, and no scorer is asked."""

    tag: str


def read(connection: Connection, schema: str, jobs: Sequence[Job]) -> Mapping[str, Conversation | Disqualified]:
    """Return what there is to score, by the job's id.

    A job is missing if its lead is gone, belongs to another workspace than the job, never wrote, or was disqualified by
    a page of the backfill: such a job succeeds and changes nothing.
    """
    prepare(connection)
    values = {
        "jobs": [job.id for job in jobs],
        "leads": [job.lead for job in jobs],
        "clients": [job.client for job in jobs],
        "disqualifying": list(DISQUALIFYING),
        "disqualified_reasoning": DISQUALIFIED_REASONING,
        "lowest": LOWEST,
        "messages": _MESSAGES,
        "characters": _CHARACTERS,
    }
    overrides = prompt_overrides.read(connection, schema, sorted({job.client for job in jobs}))
    found: dict[str, Conversation | Disqualified] = {}
    for row in connection.execute(file("conversations", schema), values):
        if row.disqualified:
            if not row.settled:
                found[row.job] = Disqualified(row.tag)
        elif row.has_inbound:
            found[row.job] = _conversation(row, overrides[row.client])
    return found


def at_once(job: Job, found: Conversation | Disqualified | None) -> Result | None:
    """Return the result of a job for which no scorer is asked; None if one is."""
    match found:
        case None:
            return Result(job.id, "unchanged")
        case Disqualified(tag):
            return Result(job.id, "scored", Score(LOWEST, LOWEST, LOWEST, f"Disqualified: {tag}"))
    return None


def transcript(lines: Sequence[Line]) -> str:
    """Return the messages as one text, oldest first, of which the last 24,000 characters are used."""
    said = (f"{'Lead' if line.inbound else 'Us'}: {line.text.strip()}" for line in lines if line.text.strip())
    return "\n\n".join(said)[-_CHARACTERS:]


def questions(stored: str | None) -> tuple[str, ...]:
    """Return a workspace's questions: a JSON array as text, or plain text with one question on each line."""
    try:
        content = json.loads(stored or "[]")
    except ValueError:
        content = (stored or "").splitlines()
    entries = content if isinstance(content, list) else [content]
    return tuple(text for text in map(_question, entries) if text)


def _question(entry: Any) -> str:
    if isinstance(entry, dict):
        entry = entry.get("question", "")
    return "" if entry is None else str(entry).strip()


def _conversation(row: Row[Any], overrides: tuple[PromptOverride, ...]) -> Conversation:
    lines = tuple(Line(inbound, text) for inbound, text in zip(row.inbound or (), row.texts or (), strict=True))
    return Conversation(
        job=row.job,
        workspace=Workspace(
            id=row.client,
            company_name=row.workspace_name or "",
            ideal_customer_profile=row.profile or "",
            service_description=row.service or "",
            qualification_questions=questions(row.questions),
            prompt_overrides=overrides,
        ),
        lines=lines,
        transcript=transcript(lines),
        company_name=row.company_name or "",
        industry=row.industry or "",
        employee_headcount=row.headcount or "",
    )
