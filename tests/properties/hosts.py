"""Random host databases: every kind of id, workspace, tag, score, message and job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from properties.oracle import DISQUALIFYING, Rules, our_key

Rows = list[dict[str, Any]]

LONG_AGO = datetime(2025, 1, 1)  # noqa: DTZ001  the host's columns hold UTC without a zone
MINUTE = timedelta(minutes=1)
CLIENTS = ("client-1", "Client-2", "client_3", "ärzte: 100% 'q'")

#: Disqualifying tags, and near misses.
TAGS = (
    None,
    *sorted(DISQUALIFYING),
    *("blacklist", "OPT OUT", "Opt-Out", " Bounced", "Bounced ", "Unsubscribes", "Bounc", ""),
    *("Interested", "Not Interested"),
)

#: Ids that are prefixes of one another, that some collations treat alike, or that contain SQL's or a driver's syntax.
TRICKY_IDS = (
    *("a", "A", "aa", "aA", "Aa", "ab", "a b", "a-b", "a_b", "a__b", "_ab", "-ab", " a", "a ", "b", "B"),
    *("lead", "lead_1", "lead-1", "lead1", "lead_10", "lead_2", "LEAD_1", "Lead_1", "lead_1:x"),
    *("%", "%s", "%(id)s", "100%", ":id", "::text", "a:b", "'", "''", "O'Brien", '"', 'a"b'),
    *("\\", "\\x00", "{host}", "$1", "--", "NULL", "\t", "\u00a0", "e\u0301"),
    *("é", "e", "f", "E", "É", "è", "z", "Z", "ä", "ß", "ss", "ø", "ж", "Ж", "名前", "😀"),
)

_LETTERS = "aAbBzZäÄéßжñ名_-:%'\" .09"
lead_ids = st.one_of(
    st.sampled_from(TRICKY_IDS),
    st.uuids(version=4).map(str),
    st.uuids(version=4).map(str).map(str.upper),
    st.text(alphabet=_LETTERS, min_size=1, max_size=6),
    st.uuids(version=4).map(lambda each: f"lead_{each}"),
)


@dataclass(frozen=True, repr=False)
class Host:
    """The rows of a host database, by table, in insertion order."""

    clients: Sequence[str]
    tables: Mapping[str, Rows]

    @property
    def leads(self) -> list[str]:
        return [row["id"] for row in self.tables["Lead"]]

    def __repr__(self) -> str:
        """Return the distinguishing columns, short enough to read in a failing example."""
        columns = {
            "Lead": ("id", "clientId", "sentimentTag", "overallScore"),
            "Message": ("id", "leadId", "direction", "sentAt"),
            "BackgroundJob": ("dedupeKey", "messageId", "status", "attempts"),
        }
        lines = [
            " ".join([f"  {table}", *(f"{name}={row[name]!r}" for name in names)])
            for table, names in columns.items()
            for row in self.tables[table]
        ]
        return "\n".join(["Host(", *lines, ")"])

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:  # noqa: FBT001  Hypothesis asks for it
        printer.text(repr(self))

    def reversed(self) -> "Host":
        """Return the same rows in reverse order."""
        return Host(self.clients, {name: rows[::-1] for name, rows in self.tables.items()})


@dataclass(frozen=True)
class Traits:
    """The features of a host besides unscored leads with one reply. The simplest host has none."""

    workspaces: bool  # more than one
    ids: bool  # of every kind, not only UUIDs
    tags: bool
    scores: bool
    silent: bool  # leads that never answered
    ties: bool  # simultaneous messages
    jobs: bool  # ours, left over from earlier runs, in every status
    live_jobs: bool  # the host's own


_STATUSES = ("PENDING", "RUNNING", "SUCCEEDED", "FAILED")
#: Keys that aren't ours, including near misses.
_LIVE_KEYS = ("lead_scoring:{lead}:{message}", "Lead_scoring_backfill:{lead}", "lead_scoring_backfill:{lead}:{message}")


@st.composite
def hosts(draw: st.DrawFn, *, most: int = 60) -> Host:
    """Draw a host database of up to `most` leads in four workspaces.

    The number of leads, the traits and a seed are drawn; the rest follows from the seed, lead by lead. So examples
    differ widely, and a failing one can be shrunk by dropping leads and traits.
    """
    number = draw(st.integers(0, most))
    traits = draw(st.builds(Traits, *[st.booleans()] * len(fields(Traits))))
    seed = draw(st.integers(0, 2**32))
    tables: dict[str, Rows] = {
        "Client": [client_row(client) for client in CLIENTS],
        "WorkspaceSettings": [settings_row(client) for client in CLIENTS[:2]],
        "Lead": [],
        "Message": [],
        "BackgroundJob": [],
    }
    taken: set[str] = set()
    for index in range(number):
        random = Random(f"{seed} {index}")  # noqa: S311  nothing secret
        lead = _new_id(random, traits, taken)
        _add_lead(tables, random, traits, lead, index)
    return Host(CLIENTS, tables)


def _new_id(random: Random, traits: Traits, taken: set[str]) -> str:
    while True:
        uuid = str(UUID(int=random.getrandbits(128), version=4))
        text = "".join(random.choices(_LETTERS, k=random.randint(1, 6)))
        kinds = (uuid, uuid.upper(), f"lead_{uuid}", text, text, random.choice(TRICKY_IDS), random.choice(TRICKY_IDS))
        lead = random.choice(kinds) if traits.ids else uuid
        if lead not in taken:
            taken.add(lead)
            return lead


def _add_lead(tables: dict[str, Rows], random: Random, traits: Traits, lead: str, index: int) -> None:
    client = random.choice(CLIENTS) if traits.workspaces else CLIENTS[0]
    tag = random.choice(TAGS) if traits.tags and random.random() < 0.4 else None
    score = random.randint(1, 4) if traits.scores and random.random() < 0.25 else None
    tables["Lead"].append(lead_row(lead, client, index, tag=tag, score=score))
    messages = _messages(random, traits, lead, index)
    tables["Message"] += messages
    if not messages:
        return
    if traits.jobs and random.random() < 0.5:
        status, attempts, message = random.choice(_STATUSES), random.randint(0, 5), random.choice(messages)
        tables["BackgroundJob"].append(
            job_row(f"job-{index}", our_key(lead), lead, client, message["id"], status=status, attempts=attempts)
        )
    if traits.live_jobs and random.random() < 0.5:
        status, message = random.choice(_STATUSES), random.choice(messages)
        key = random.choice(_LIVE_KEYS).format(lead=lead, message=message["id"])
        tables["BackgroundJob"].append(
            job_row(f"live-{index}", key, lead, client, message["id"], status=status, most_attempts=5)
        )


def _messages(random: Random, traits: Traits, lead: str, index: int) -> Rows:
    """Return a lead's messages; their ids sort in another order than the rows."""
    directions = ["inbound"]
    if traits.silent and random.random() < 0.4:
        directions = random.choices(("outbound", "INBOUND"), k=random.randint(0, 2))
    if traits.ties:
        directions += random.choices(("inbound", "outbound"), k=random.randint(0, 3) if directions else 0)
        random.shuffle(directions)
    if not traits.silent and "inbound" not in directions:
        directions.append("inbound")
    return [
        message_row(f"{random.randint(0, 9)}-{index}-{place}", lead, direction=direction, minute=random.randint(0, 1))
        for place, direction in enumerate(directions)
    ]


def client_row(client: str) -> dict[str, Any]:
    return {"id": client, "name": client, "userId": "user", "createdAt": LONG_AGO, "updatedAt": LONG_AGO}


def settings_row(client: str) -> dict[str, Any]:
    return {
        "id": f"settings of {client}",
        "clientId": client,
        "companyName": "Company",
        "createdAt": LONG_AGO,
        "updatedAt": LONG_AGO,
    }


def lead_row(lead: str, client: str, index: int, *, tag: str | None, score: int | None) -> dict[str, Any]:
    """Return a lead's row; a score comes with its other columns."""
    return {
        "id": lead,
        "firstName": f"First {index}",
        "email": f"lead-{index}@example.com",
        "status": "new" if index % 3 else "blacklisted",
        "sentimentTag": tag,
        "fitScore": score,
        "intentScore": score,
        "overallScore": score,
        "scoreReasoning": None if score is None else "Because.",
        "scoredAt": None if score is None else LONG_AGO + index * MINUTE,
        "clientId": client,
        "createdAt": LONG_AGO,
        "updatedAt": LONG_AGO + index * MINUTE,
    }


def message_row(message: str, lead: str, *, direction: str, minute: int) -> dict[str, Any]:
    return {
        "id": message,
        "channel": "email",
        "source": "zrg",
        "body": "Hello",
        "isRead": False,
        "direction": direction,
        "leadId": lead,
        "sentAt": LONG_AGO + minute * MINUTE,
        "createdAt": LONG_AGO + minute * MINUTE,
    }


def job_row(
    job: str,
    key: str,
    lead: str,
    client: str,
    message: str,
    *,
    status: str,
    attempts: int = 0,
    most_attempts: int = 3,
) -> dict[str, Any]:
    """Return a job in the form in which the host's runner leaves it in this status."""
    ended = status in {"SUCCEEDED", "FAILED"}
    running = status == "RUNNING"
    return {
        "id": job,
        "type": "LEAD_SCORING_POST_PROCESS",
        "status": status,
        "dedupeKey": key,
        "clientId": client,
        "leadId": lead,
        "messageId": message,
        "runAt": LONG_AGO,
        "attempts": attempts,
        "maxAttempts": most_attempts,
        "lockedAt": LONG_AGO if running else None,
        "lockedBy": "runner" if running else None,
        "startedAt": LONG_AGO if running or ended else None,
        "finishedAt": LONG_AGO if ended else None,
        "lastError": "Released stale RUNNING lock" if status in {"PENDING", "FAILED"} and attempts else None,
        "createdAt": LONG_AGO,
        "updatedAt": LONG_AGO,
    }


@dataclass(frozen=True)
class Order:
    """The options of a run. `rows`: the maximum number of rows that a page reads to find its leads."""

    limit: int
    lanes: int
    cursor: str | None
    client_ids: tuple[str, ...] | None
    rescore_all: bool
    delay_ms: int
    rows: int

    @property
    def rules(self) -> Rules:
        return Rules(self.client_ids, self.rescore_all, self.delay_ms)


@st.composite
def orders(draw: st.DrawFn, host: Host, *, limits: int = 20, lanes: int = 5) -> Order:
    """Draw a valid run on this host."""
    cursors = st.none() | (st.sampled_from(host.leads) | lead_ids if host.leads else lead_ids)
    return Order(
        limit=draw(st.integers(1, limits)),
        lanes=draw(st.integers(1, lanes)),
        cursor=draw(st.none() | cursors),
        client_ids=draw(
            st.none() | st.lists(st.sampled_from(host.clients), min_size=1, unique=True).map(sorted).map(tuple)
        ),
        rescore_all=draw(st.booleans()),
        delay_ms=draw(st.sampled_from((0, 0, 1, 250, 3_000, 86_400_000))),
        rows=draw(st.sampled_from((5_000, 1, 2, 7))),
    )


@dataclass(frozen=True)
class Case:
    """A host database and a run on it."""

    host: Host
    order: Order


@st.composite
def cases(draw: st.DrawFn, *, most: int = 60, limits: int = 20, lanes: int = 5) -> Case:
    """Draw a host and a valid run on it."""
    host = draw(hosts(most=most))
    return Case(host, draw(orders(host, limits=limits, lanes=lanes)))
