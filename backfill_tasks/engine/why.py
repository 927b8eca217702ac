"""Why an item is as it is: the ledger's records and its backfill's explanation, and the verdict of both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from backfill_tasks.engine import schema, verdicts
from backfill_tasks.engine.connection import driver
from backfill_tasks.engine.contract import Backfill, PageContext
from backfill_tasks.engine.database import begin_read_only, sqlstate
from backfill_tasks.engine.encoding import unstorable
from backfill_tasks.engine.explanation import Explanation, Fate, Now, Passage, Verdict
from backfill_tasks.engine.ledger import count_runs, passages
from backfill_tasks.engine.model import Bounds, RunId, Window
from backfill_tasks.errors import UsageError
from backfill_tasks.escaping import shown

#: How many runs are looked at, newest first.
MOST_RUNS = 20

#: SQLSTATE class: a value is invalid for its column's type, or for the database's encoding.
_DATA_EXCEPTION = "22"


@dataclass(frozen=True)
class Answer:
    """What became of one item.

    Attributes:
        backfill: the backfill's name.
        now: the item as a run would find it now.
        verdict: the answer in a sentence, and what to type.
        explanation: what the backfill says of the item.
        passages: what the newest runs have to do with it, newest first.
        fates: what the pages that passed it did with it, by run.
        older_runs: how many runs are older than these.
    """

    backfill: str
    now: Now
    verdict: Verdict
    explanation: Explanation
    passages: Sequence[Passage]
    fates: Mapping[RunId, Fate]
    older_runs: int

    def as_json(self) -> dict[str, Any]:
        """Return the answer as `why --json` prints it (docs/reference/json.md)."""
        return {
            "backfill": self.backfill,
            "item": self.now.item,
            "exists": self.now.exists,
            "kind": self.verdict.kind,
            "verdict": self.verdict.said,
            "next": self.verdict.next,
            "would": self.now.would,
            "facts": dict(self.explanation.facts),
            "runs": [self._passage_as_json(each) for each in self.passages],
            "older_runs": self.older_runs,
        }

    def _passage_as_json(self, passage: Passage) -> dict[str, Any]:
        fate, page = self.fates.get(passage.run), passage.page
        return {
            "run_id": passage.run,
            "state": passage.state,
            "started_at": passage.started_at.isoformat(),
            "place": passage.place,
            "lane": passage.lane,
            "lane_state": passage.lane_state,
            "page": page and page.number,
            "at": page and page.at.isoformat(),
            "enqueued_at": passage.enqueued_at and passage.enqueued_at.isoformat(),
            "classes": list(fate.classes) if fate else [],
            "error": passage.error,
            "said": fate.said if fate else verdicts.place(passage),
        }


def why(connection: Connection, backfill: Backfill, item: str, *, statement_ms: int) -> Answer:
    """Answer what became of an item. The transaction must be new: it becomes read-only, with a single snapshot.

    Raises:
        UsageError: neither the database nor the ledger has such an item.
        HostError: this role can't see all rows of the host.
        LedgerError: the ledger has another version, or is closed to this role.
    """
    _require_possible(connection, backfill, item)
    connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    begin_read_only(connection, statement_ms=statement_ms)
    backfill.check_host(connection, apply=False)
    try:
        now = _now(connection, backfill, item)
    except DBAPIError as error:
        if (sqlstate(error) or "")[:2] != _DATA_EXCEPTION:
            raise
        raise UsageError(_no_such(backfill, item, "whose key has another form")) from None
    found, number = _passages(connection, backfill, now.item)
    explanation = backfill.explain(connection, now, found)
    if now.exists is False and not any(each.error or each.enqueued_at for each in found):
        raise UsageError(_no_such(backfill, item, "and no run has recorded it"))
    fates = {each.run: explanation.fates.get(each.run) or verdicts.fate(each) for each in found if each.page}
    verdict = explanation.verdict or verdicts.verdict(backfill, now, found, fates)
    return Answer(backfill.name, now, verdict, explanation, found, fates, number - len(found))


def _require_possible(connection: Connection, backfill: Backfill, item: str) -> None:
    """Reject a text that no database can have as a key, or that this one's encoding can't store."""
    if "\x00" in item:
        raise UsageError(_no_such(backfill, item, "because no text in PostgreSQL contains a zero byte"))
    encoding = driver(connection).server_encoding
    if unstorable(encoding, [item]) is not None:
        raise UsageError(_no_such(backfill, item, f"because this database's encoding {encoding} can't store it"))


def _no_such(backfill: Backfill, item: str, because: str) -> str:
    given = f"the id {shown(item)!r}" if item.isprintable() else f"the id '{shown(item)}'"
    return f"none of the {backfill.items} has {given if item else 'an empty id'}, {because}"


def _now(connection: Connection, backfill: Backfill, item: str) -> Now:
    """Return an item as a dry run of its key alone finds it."""
    bounds = Bounds(backfill.previous_key(connection, item), item)
    context = PageContext(backfill.with_defaults({}), datetime.now(UTC))
    result = backfill.dry_run(connection, Window(bounds, limit=1, rows=1), context)
    classes = [name for name in (*backfill.classes, *backfill.passed_over) if result.counts.get(name)]
    exists = True if classes else (False if backfill.passed_over else None)
    return Now(result.cursor if exists else item, exists, next(iter(classes), None), bool(result.counts["read"]))


def _passages(connection: Connection, backfill: Backfill, item: str) -> tuple[list[Passage], int]:
    """Return what the newest runs have to do with an item, and the number of all runs."""
    if not schema.version(connection):
        return [], 0
    schema.require(connection)
    found = passages(
        connection,
        backfill.name,
        item,
        lambda keys: backfill.reached(connection, item, keys),
        backfill.with_defaults,
        most=MOST_RUNS,
    )
    return found, count_runs(connection, backfill.name)
