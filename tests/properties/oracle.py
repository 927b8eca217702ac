"""The expected result of a run, derived from the host's rules alone: plain Python over plain rows.

It shares no code with the page statement, so the two agree only if both are right. Where the rules allow
several results (which of two simultaneous messages is the anchor, a new job's id, a page's millisecond), the oracle
accepts all of them.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal

Row = Mapping[str, Any]
Fate = Literal[
    "inserted",
    "requeued",
    "refreshed",
    "in_flight",
    "disqualified",
    "already_scored",
    "no_inbound",
    "another_workspace",
]

ENQUEUED: tuple[Fate, ...] = ("inserted", "requeued", "refreshed")
READ: tuple[Fate, ...] = (*ENQUEUED, "in_flight", "disqualified")
PASSED_OVER: tuple[Fate, ...] = ("already_scored", "no_inbound")

#: The fate of a lead with an existing job, by the job's status.
OF_A_JOB: Mapping[str, Fate] = {
    "RUNNING": "in_flight",
    "PENDING": "refreshed",
    "SUCCEEDED": "requeued",
    "FAILED": "requeued",
}

DISQUALIFYING = {"Blacklist", "Opt Out", "Opted Out", "Unsubscribe", "Unsubscribed", "Bounced", "Bounce"}
MILLISECOND = timedelta(milliseconds=1)


def naive_utc(moment: datetime) -> datetime:
    """Return a moment in the host's format: UTC without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def our_key(lead: str) -> str:
    """Return the dedupeKey of our job of a lead."""
    return f"lead_scoring_backfill:{lead}"


@dataclass(frozen=True)
class Snapshot:
    """Every row of the host's tables at one moment, by table and id; leads are in the database's order."""

    tables: Mapping[str, Mapping[str, Row]]

    @property
    def leads(self) -> Mapping[str, Row]:
        return self.tables["Lead"]

    @property
    def jobs(self) -> Mapping[str, Row]:
        return self.tables["BackgroundJob"]

    @cached_property
    def job_by_key(self) -> Mapping[str, Row]:
        return {job["dedupeKey"]: job for job in self.jobs.values()}

    @cached_property
    def inbound_by_lead(self) -> Mapping[str, Sequence[Row]]:
        found: dict[str, list[Row]] = defaultdict(list)
        for message in self.tables["Message"].values():
            if message["direction"] == "inbound":
                found[message["leadId"]].append(message)
        return found

    def our_job(self, lead: str) -> Row | None:
        """Return our job of this lead, or None."""
        return self.job_by_key.get(our_key(lead))

    def anchors_in_use(self) -> dict[str, str]:
        """Return each job's anchor, by key."""
        return {key: job["messageId"] for key, job in self.job_by_key.items()}

    def anchors(self, lead: str) -> set[str]:
        """Return the lead's newest inbound message; all of them if several arrived at the same moment."""
        inbound = self.inbound_by_lead.get(lead, ())
        newest = max((message["sentAt"] for message in inbound), default=None)
        return {message["id"] for message in inbound if message["sentAt"] == newest}


@dataclass(frozen=True)
class Rules:
    """The parameters of a run that decide a lead's fate."""

    client_ids: Sequence[str] | None = None
    rescore_all: bool = False
    delay_ms: int = 0


@dataclass(frozen=True)
class Span:
    """The duration of a run, by the database's clock, in the host's format: UTC without a zone."""

    began: datetime
    ended: datetime

    def __contains__(self, moment: object) -> bool:
        return isinstance(moment, datetime) and self.began - MILLISECOND <= moment <= self.ended + MILLISECOND


def fate(host: Snapshot, rules: Rules, lead: str) -> Fate:
    """Return the fate of a lead that a run passes."""
    row = host.leads[lead]
    if rules.client_ids is not None and row["clientId"] not in rules.client_ids:
        return "another_workspace"
    if row["overallScore"] is not None and not rules.rescore_all:
        return "already_scored"
    if not host.anchors(lead):
        return "no_inbound"
    if row["sentimentTag"] in DISQUALIFYING:
        return "disqualified"
    job = host.our_job(lead)
    return "inserted" if job is None else OF_A_JOB[job["status"]]


def fates(host: Snapshot, rules: Rules, passed: Collection[str]) -> dict[str, Fate]:
    """Return the fate of every lead that a run passes."""
    return {lead: fate(host, rules, lead) for lead in passed}


def counts(fated: Mapping[str, Fate]) -> dict[str, int]:
    """Return the run's expected counts: `read` and every class."""
    number = Counter(fated.values())
    return {"read": sum(number[name] for name in READ), **{name: number[name] for name in READ}}


def passed_over(fated: Mapping[str, Fate]) -> dict[str, int]:
    """Return the additional counts of a dry run."""
    number = Counter(fated.values())
    return {name: number[name] for name in PASSED_OVER}


def due_times(started_at: datetime, delay_ms: int, number: int, *, before: int = 0) -> list[datetime]:
    """Return the due times of jobs with a delay: the n-th comes due n delays after the start, counting `before`."""
    return [started_at + n * timedelta(milliseconds=delay_ms) for n in range(before + 1, before + number + 1)]


def differences(
    before: Snapshot,
    after: Snapshot,
    fated: Mapping[str, Fate],
    span: Span,
    *,
    delay_ms: int = 0,
    exempt: Collection[str] = (),
) -> list[str]:
    """Return the differences between the database and its earlier state with only the fates applied.

    Args:
        before: the database at the run's start.
        after: the database now.
        fated: the fates of the leads that were passed.
        span: the duration of the run.
        delay_ms: the run's delay; if it isn't 0, the caller compares the due times of its jobs.
        exempt: leads that the host changed during the run; their rows aren't compared.
    """
    return [
        *_other_tables(before, after, set(exempt)),
        *_leads(before, after, fated, span, set(exempt)),
        *_jobs(before, after, fated, span, delay_ms, set(exempt)),
    ]


def _other_tables(before: Snapshot, after: Snapshot, exempt: set[str]) -> Iterator[str]:
    if before.tables.keys() != after.tables.keys():
        yield f"the host's tables are {sorted(after.tables)}, they were {sorted(before.tables)}"
    for table in sorted(set(before.tables) - {"Lead", "BackgroundJob"}):
        old, new = (
            {name: row for name, row in each.tables[table].items() if row.get("leadId") not in exempt}
            for each in (before, after)
        )
        yield from _compare(table, old, new)


def _leads(before: Snapshot, after: Snapshot, fated: Mapping[str, Fate], span: Span, exempt: set[str]) -> Iterator[str]:
    expected = {}
    for lead, row in before.leads.items():
        if lead in exempt:
            continue
        expected[lead] = dict(row)
        if fated.get(lead) != "disqualified":
            continue
        found = after.leads.get(lead, {})
        if found.get("scoredAt") not in span:
            yield f"lead {lead!r} was disqualified at {found.get('scoredAt')}, not during the run"
        expected[lead] |= {
            "fitScore": 1,
            "intentScore": 1,
            "overallScore": 1,
            "scoreReasoning": f"Automatically disqualified: {row['sentimentTag']}",
            "scoredAt": found.get("scoredAt"),
        }
    yield from _compare("Lead", expected, {lead: row for lead, row in after.leads.items() if lead not in exempt})


def _jobs(
    before: Snapshot, after: Snapshot, fated: Mapping[str, Fate], span: Span, delay_ms: int, exempt: set[str]
) -> Iterator[str]:
    expected = {job["id"]: dict(job) for job in before.jobs.values() if job["leadId"] not in exempt}
    for lead, what in fated.items():
        if what not in ENQUEUED or lead in exempt:
            continue
        found = after.our_job(lead)
        if found is None:
            yield f"lead {lead!r} has no job, it must be {what}"
            continue
        yield from _free_choices(before, found, lead, what, span, delay_ms)
        old = before.our_job(lead)
        base = _new_job(before.leads[lead], found) if old is None else old
        expected[found["id"] if old is None else old["id"]] = {
            **base,
            "status": "PENDING",
            "attempts": 0,
            "messageId": found["messageId"],
            "runAt": found["runAt"],
            "updatedAt": found["updatedAt"],
            "lockedAt": None,
            "lockedBy": None,
            "startedAt": None,
            "finishedAt": None,
            "lastError": None,
        }
    yield from _compare(
        "BackgroundJob", expected, {job["id"]: job for job in after.jobs.values() if job["leadId"] not in exempt}
    )


def _new_job(lead: Row, found: Row) -> dict[str, Any]:
    return {
        "id": found["id"],
        "type": "LEAD_SCORING_POST_PROCESS",
        "dedupeKey": our_key(lead["id"]),
        "clientId": lead["clientId"],
        "leadId": lead["id"],
        "draftId": None,
        "maxAttempts": 3,
        "createdAt": found["createdAt"],
    }


def _free_choices(before: Snapshot, found: Row, lead: str, what: Fate, span: Span, delay_ms: int) -> Iterator[str]:
    """Yield violations of the bounds where the rules allow several results."""
    anchors = before.anchors(lead)
    if found["messageId"] not in anchors:
        yield f"the job of lead {lead!r} has the anchor {found['messageId']!r}, not one of {sorted(anchors)}"
    if delay_ms == 0 and found["runAt"] not in span:
        yield f"the job of lead {lead!r} is due at {found['runAt']}, not at the time of its page"
    if found["updatedAt"] not in span:
        yield f"the job of lead {lead!r} was updated at {found['updatedAt']}, not during the run"
    if what == "inserted" and (found["createdAt"] not in span or found["id"] in before.jobs):
        yield f"the job of lead {lead!r} is new, but has the id {found['id']!r} and is of {found['createdAt']}"


def _compare(table: str, expected: Mapping[str, Row], found: Mapping[str, Row]) -> Iterator[str]:
    for name in expected.keys() - found.keys():
        yield f"{table} {name!r} is gone"
    for name in found.keys() - expected.keys():
        yield f"{table} {name!r} should not be there: {dict(found[name])}"
    for name in expected.keys() & found.keys():
        old, new = expected[name], found[name]
        for column in sorted(old.keys() | new.keys()):
            if column not in old or column not in new or old[column] != new[column]:
                yield f"{table} {name!r}: {column} is {new.get(column)!r}, expected {old.get(column)!r}"
