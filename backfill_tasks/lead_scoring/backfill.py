"""The host's tables and rules, as a backfill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, ClassVar

from sqlalchemy import Connection, TextClause, text

from backfill_tasks.engine.backfill import Backfill, PageClaim, PageContext, Raced, Stretch
from backfill_tasks.engine.indicators import Indicator
from backfill_tasks.engine.model import Options, PageResult, Window
from backfill_tasks.engine.pace import Pace
from backfill_tasks.errors import HostError, UsageError
from backfill_tasks.lead_scoring import host
from backfill_tasks.lead_scoring.queue import Drain, LiveQueueAge

#: The stable key of the jobs that are ours: one a lead, whatever run wrote it.
KEY_PREFIX = "lead_scoring_backfill:"

#: Lead."sentimentTag", compared exactly, that disqualifies a lead.
DISQUALIFYING = ("Blacklist", "Opt Out", "Opted Out", "Unsubscribe", "Unsubscribed", "Bounced", "Bounce")

#: The longest delay between two jobs: a day, in milliseconds.
MOST_DELAY_MS = 86_400_000

_DISQUALIFIED_REASONING = "Automatically disqualified: "
_MAX_ATTEMPTS = 3

#: What the page does with the host's tables, and so the rights that it needs.
_RIGHTS = {
    "Client": "SELECT",
    "Message": "SELECT",
    "Lead": "SELECT, UPDATE",
    "BackgroundJob": "SELECT, INSERT, UPDATE",
}


@dataclass(frozen=True)
class LeadScoring(Backfill):
    """Enqueues the job of every lead that takes part and has no score.

    `schema` is that of the host's tables; `drain`, when the host takes jobs out of its queue.

    Options: `client_ids` (a list, or None for all workspaces), `rescore_all`, `delay_ms`.
    """

    name: ClassVar[str] = "lead-scoring"
    classes: ClassVar[Mapping[str, str]] = {
        "inserted": "job created",
        "requeued": "job had ended, PENDING again",
        "refreshed": "job was PENDING, made new",
        "in_flight": "job is RUNNING, left alone",
        "disqualified": "scored 1, no job",
    }
    passed_over: ClassVar[Mapping[str, str]] = {
        "already_scored": "have a score",
        "no_inbound": "never wrote to us",
    }
    items: ClassVar[str] = "leads"
    jobs: ClassVar[Sequence[str]] = ("inserted", "requeued")

    schema: str = "public"
    drain: Drain = field(default_factory=Drain)

    def check_options(self, options: Options) -> None:
        """Refuse options that no command line has made."""
        ids, rescore_all, delay_ms = (options.get(name) for name in ("client_ids", "rescore_all", "delay_ms"))
        if set(options) != {"client_ids", "rescore_all", "delay_ms"}:
            raise ValueError(f"its options are {', '.join(sorted(options))}")
        if ids is not None and not (isinstance(ids, list) and ids and all(isinstance(each, str) for each in ids)):
            raise ValueError(f"client_ids is {ids!r}")
        if not isinstance(rescore_all, bool):
            raise ValueError(f"rescore_all is {rescore_all!r}")  # noqa: TRY004  a value of a file, not an argument
        if type(delay_ms) is not int or not 0 <= delay_ms <= MOST_DELAY_MS:
            raise ValueError(f"delay_ms is {delay_ms!r}")

    def check_host(self, connection: Connection, *, apply: bool) -> None:
        """Refuse missing tables and missing rights."""
        for table, rights in _RIGHTS.items():
            self._check_table(connection, table, rights if apply else "SELECT")

    def check(self, connection: Connection, options: Options, *, apply: bool) -> None:
        """Refuse missing tables, missing rights and unknown workspaces."""
        self.check_host(connection, apply=apply)
        wanted = options["client_ids"]
        if wanted is None:
            return
        found = connection.execute(
            host.statement('SELECT id FROM {host}."Client" WHERE id = ANY (:ids)', self.schema), {"ids": list(wanted)}
        )
        unknown = sorted(set(wanted) - set(found.scalars()))
        if unknown:
            names = ", ".join(repr(each) for each in unknown)
            raise UsageError(f"there is no workspace {names}: --client-id takes ids of the table Client")

    def _check_table(self, connection: Connection, table: str, rights: str) -> None:
        name = f'{self._host}."{table}"'
        if (
            connection.execute(
                text("SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = :name"),
                {"name": self.schema},
            ).scalar()
            is False
        ):
            raise HostError(
                f"this role may not use schema {self._host}: have a DBA run GRANT USAGE ON SCHEMA {self._host}"
                f" TO {_role(connection)}"
            )
        if connection.execute(text("SELECT to_regclass(:name)"), {"name": name}).scalar() is None:
            raise HostError(
                f"there is no table {name}: DATABASE_URL must lead to the host's database, its schema parameter to"
                " the host's schema"
            )
        for right in rights.split(", "):
            statement = text("SELECT has_table_privilege(:name, :right)")
            if not connection.execute(statement, {"name": name, "right": right}).scalar_one():
                raise HostError(
                    f"this role may not {right} {name}: have a DBA run GRANT {rights} ON {name} TO {_role(connection)}"
                )

    def split(
        self, connection: Connection, options: Options, *, after: str | None, lanes: int, smallest: int
    ) -> list[str]:
        """Lanes of equally many eligible leads, counted in one pass over the ids."""
        values = {"after": after, "lanes": lanes, "smallest": smallest, **_filters(options)}
        return list(connection.execute(self._file("split.sql"), values).scalars())

    def page(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Disqualify, upsert and count one page in one statement."""
        values = {
            **_window(window),
            **_filters(context.options),
            "disqualifying": list(DISQUALIFYING),
            "key_prefix": KEY_PREFIX,
            "disqualified_reasoning": _DISQUALIFIED_REASONING,
            "max_attempts": _MAX_ATTEMPTS,
            "delay_ms": context.options["delay_ms"],
            "started_at": _naive(context.started_at),
            "ordinal": context.ordinal,
            "spacing_ms": context.spacing_ms or 0.0,
            "due_at": context.due_at and _naive(context.due_at),
            "drain_seconds": self.drain.seconds,
            "drain_lead_seconds": self.drain.lead_seconds,
        }
        row = connection.execute(self._file("selection.sql", "page.sql"), values).one()
        counts = {name: getattr(row, name) for name in ("read", *self.classes)}
        if sum(counts[name] for name in self.classes) != row.read:
            raise Raced
        if not (self.numbers(context.options) or context.spacing_ms):
            return PageResult(row.cursor, counts)
        numbered = row.inserted + row.requeued + row.refreshed
        return PageResult(row.cursor, counts, numbered, row.due_at and row.due_at.replace(tzinfo=UTC))

    def survey(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Count one page through the same selection."""
        values = {
            **_window(window),
            **_filters(context.options),
            "disqualifying": list(DISQUALIFYING),
            "key_prefix": KEY_PREFIX,
        }
        row = connection.execute(self._file("selection.sql", "survey.sql"), values).one()
        counts = {name: getattr(row, name) for name in ("read", *self.classes, *self.passed_over)}
        return PageResult(row.cursor, counts)

    def verify(self, connection: Connection, window: Window, context: PageContext) -> Stretch:
        """Look for eligible leads that have neither job nor score."""
        values = {
            "lower": window.bounds.lower,
            "upper": window.bounds.upper,
            "rows": window.rows,
            **_filters(context.options),
            "disqualifying": list(DISQUALIFYING),
            "key_prefix": KEY_PREFIX,
            "started_at": _naive(context.started_at),
        }
        row = connection.execute(self._file("verify.sql"), values).one()
        return Stretch(row.cursor, row.missing, row.arrived)

    def recount(self, connection: Connection, claim: PageClaim) -> dict[str, int]:
        """Count the jobs and the scores that carry the page's own times."""
        values = {
            "lower": claim.lower,
            "cursor": claim.cursor,
            "times": [_naive(each) for each in claim.times],
            "key_prefix": KEY_PREFIX,
            "disqualified_reasoning": _DISQUALIFIED_REASONING,
        }
        row = connection.execute(self._file("recount.sql"), values).one()
        return {"inserted": row.inserted, "disqualified": row.disqualified}

    def before(self, connection: Connection, item: str) -> str | None:
        """Looked up by the primary key, whether the item itself is still there or not."""
        query = host.statement('SELECT max(id) FROM {host}."Lead" WHERE id < :item', self.schema)
        found: str | None = connection.execute(query, {"item": item}).scalar_one()
        return found

    def pending(self, connection: Connection, most: int) -> int:
        """Our jobs that are PENDING or RUNNING (one that is RUNNING goes back when it fails), and the live ones due."""
        return int(connection.execute(self._file("pending.sql"), {"key_prefix": KEY_PREFIX, "most": most}).scalar_one())

    def indicators(self, pace: Pace) -> Sequence[Indicator]:
        """How long the host's own jobs wait."""
        return (LiveQueueAge(self.schema, KEY_PREFIX, pace.max_live_wait),)

    def numbers(self, options: Options) -> bool:
        """Jobs are numbered when each has its own time after the run's start."""
        return bool(options["delay_ms"])

    @cached_property
    def _host(self) -> str:
        return host.quoted(self.schema)

    def _file(self, *names: str) -> TextClause:
        return host.file(self.schema, *names)


def _role(connection: Connection) -> str:
    """This connection's role, as it is written in a statement."""
    return str(connection.execute(text("SELECT quote_ident(current_user)")).scalar_one())


def _filters(options: Options) -> dict[str, Any]:
    ids = options["client_ids"]
    return {"client_ids": None if ids is None else list(ids), "rescore_all": options["rescore_all"]}


def _window(window: Window) -> dict[str, Any]:
    return {
        "lower": window.bounds.lower,
        "upper": window.bounds.upper,
        "limit": window.limit,
        "rows": window.rows,
    }


def _naive(moment: datetime) -> datetime:
    """The host's TIMESTAMP(3) columns hold UTC without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None)
