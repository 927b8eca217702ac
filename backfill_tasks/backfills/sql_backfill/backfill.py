"""Backfills of one table, written in SQL or as a Python function that gets the rows."""

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, Self

from sqlalchemy import Connection, CursorResult, Row
from sqlalchemy.exc import DBAPIError

from backfill_tasks.backfills.host import rights, sql
from backfill_tasks.backfills.sql_backfill import requirements
from backfill_tasks.backfills.sql_backfill.keys import Key, escaped, identifier
from backfill_tasks.engine.contract import (
    Backfill,
    Host,
    ItemsFailed,
    Missing,
    PageClaim,
    PageContext,
    RowChanged,
    Stretch,
)
from backfill_tasks.engine.database import load_sql, statement
from backfill_tasks.engine.model import Bounds, PageResult, Window
from backfill_tasks.errors import UsageError
from backfill_tasks.kinds import Flag, Kind, Number, Texts, Whole
from backfill_tasks.options import Option, Values

#: A function that handles a page's locked rows. It gets the rows, the page's connection, and the backfill's own options
#: by name. It returns the number of rows in each class; None: all are in the first class.
Process = Callable[..., Mapping[str, int] | None]

#: The default class and its meaning, by the form of the backfill.
_CLASSES = {
    "set": {"updated": "changed"},
    "apply": {"applied": "handled by the statement"},
    "process": {"processed": "handled"},
}

#: The type of an option's parameter in SQL.
_TYPES: Mapping[type[Kind], str] = {
    Whole: "bigint",
    Number: "double precision",
    Flag: "boolean",
    Texts: "text[]",
}

#: How many blocks of a table are sampled to cut it into lanes: 4 MB, some 20 ms from memory. A table with no more
#: blocks is cut exactly.
_SAMPLED_BLOCKS = 500

#: The minimum number of sampled rows per lane for a reliable cut.
_ENOUGH = 20

#: A parameter, or any other colon.
_COLON = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)|:")

#: SQLSTATE class: a value is invalid for its column's type.
_DATA_EXCEPTION = "22"


@dataclass(frozen=True, kw_only=True, eq=False)
class SqlBackfill(Backfill):
    """A backfill of one table, whose items are the rows that satisfy `where`.

    Give it exactly one of `set` (the SET clause of an UPDATE), `apply` (a whole statement over the relation `page`,
    which has the key's columns) or `process` (a Python function). A run handles each row once. A handled row must no
    longer satisfy `where`: `verify` reports rows that still do.

    In `where`, `set`, `apply` and `arrived_at`, `:name` is the value of an option and `{host}` the schema of the host's
    tables. Columns may be qualified with the table's name. They are the author's own SQL and are not checked.

    Guarantees: a page reads by the key's index, looks at a bounded number of rows, and commits with the ledger. If the
    host changes a row during the page, the page reads it again and never overwrites it with values computed from its
    older version. With `apply` and `process`, the rows are locked (FOR NO KEY UPDATE) before they are read.

    Weakness: after waiting for a row's lock, PostgreSQL doesn't re-evaluate a subquery in `where` on other tables.

    Attributes:
        name: the name that `run` takes and the ledger stores.
        table: the table's name in PostgreSQL, case-sensitive.
        key: the column, or the columns in order, by which the table is walked: NOT NULL, unique together, with an index
            in their order, of any type that a btree orders.
        where: the condition for rows that need the change.
        set: the SET clause that changes them.
        apply: a statement that handles the rows of the relation `page`.
        process: a function that handles a sequence of rows: `process(rows, connection, **options)`.
        columns: the columns that `process` gets; empty: all.
        arrived_at: SQL for the time since when a row has needed the change. `verify` leaves rows that arrived after the
            run's start to the host; without it, it reports them as missing.
        rights: the rights needed on other tables, as GRANT lists them, by table.
        schema: the table's schema; empty: the host's.
        summary, classes, items, options: see Backfill. With `set` or `apply` there is one class.

    Raises:
        ValueError: it has none or several of the three forms, no key, or more classes than its form can have.
    """

    name: str
    table: str
    key: str | Sequence[str]
    where: str
    set: str = ""
    apply: str = ""
    process: Process | None = None
    columns: Sequence[str] = ()
    arrived_at: str = ""
    rights: Mapping[str, str] = field(default_factory=dict)
    schema: str = ""
    summary: str = ""
    items: str = "rows"
    options: Sequence[Option] = ()
    classes: Mapping[str, str] = field(default_factory=dict)
    passed_over = MappingProxyType({"up_to_date": "nothing to do"})

    def __post_init__(self) -> None:
        forms = [each for each in _CLASSES if getattr(self, each)]
        if len(forms) != 1:
            raise ValueError(f"{self.name}: give it exactly one of {', '.join(_CLASSES)}")
        if not self.key or not self.where.strip():
            raise ValueError(f"{self.name}: it needs a key and a where")
        if not self.classes:
            object.__setattr__(self, "classes", MappingProxyType(_CLASSES[forms[0]]))
        if self.process is None and len(self.classes) > 1:
            raise ValueError(f"{self.name}: with `set` or `apply`, it can have only one class")

    def on(self, host: Host) -> Self:
        """Return this backfill with the schema of the host's tables, unless it names one."""
        return replace(self, schema=self.schema or host.schema)

    def missing(self, connection: Connection, *, apply: bool) -> list[Missing]:
        """Return the missing tables and rights, and what keeps the table from being walked by its key."""
        needed = {self.table: "SELECT, UPDATE" if apply else "SELECT"}
        needed |= {table: every if apply else "SELECT" for table, every in self.rights.items()}
        found = [rights.missing(connection, self.schema, table, each) for table, each in needed.items()]
        lacking = [each for each in found if each is not None]
        return lacking or list(requirements.missing(connection, self._quoted_table, self._key.columns))

    def check(self, connection: Connection, options: Values, *, apply: bool) -> None:  # noqa: ARG002  they name nothing
        """Reject a table that can't be walked, and missing rights."""
        self.check_host(connection, apply=apply)

    def split(
        self, connection: Connection, options: Values, *, after: str | None, lanes: int, smallest: int
    ) -> list[str]:
        """Return bounds at the quantiles of a sample of the table's blocks; a large table is never read whole.

        Raises:
            UsageError: `after` is not a key of this table.
        """
        bounds = {} if after is None else self._key.values("lower", after)
        try:
            last = self._last_key(connection, self._key.window(lower=bool(bounds), upper=False), bounds)
        except DBAPIError as error:
            if (getattr(error.orig, "sqlstate", None) or "")[:2] != _DATA_EXCEPTION:
                raise
            raise UsageError(f"{after!r} is not a key of {self.table}") from None
        if last is None or lanes == 1:
            return [] if last is None else [last]
        size = statement(self._text("size.sql"))
        blocks = max(1, connection.execute(size, {"table": self._quoted_table}).scalar_one())
        percent = min(100.0, 100.0 * _SAMPLED_BLOCKS / float(blocks))
        values = {
            "percent": percent,
            "enough": 1 if percent == 100.0 else _ENOUGH * lanes,  # noqa: PLR2004  per cent
            "lanes": lanes,
            "smallest": smallest,
        }
        query = statement(self._text("split.sql", after=self._key.window(lower=bool(bounds), upper=False)))
        found = connection.execute(query, {**values, **bounds, **_own(options)}).scalars()
        return [*map(self._key.encode, found), last]

    def page(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Change one page's rows in one statement (`set`), or lock them in one and handle them in a second."""
        if self.set:
            row = self._ask(connection, "page.sql", window, context)
            if row.updated != row.read:
                raise RowChanged
            return self._result(row, window, {next(iter(self.classes)): row.updated})
        row = self._ask(connection, "lock.sql", window, context)
        if len(row.keys) != row.read:
            raise RowChanged
        return self._result(row, window, self._handled(connection, row, context))

    def statements(
        self, connection: Connection, window: Window, context: PageContext
    ) -> Sequence[Callable[[], object]]:
        """Return the page's first statement and the one after the locks, for a page that repeats the last key."""
        first = super().statements(connection, window, context)
        if self.set:
            return first
        keys = [self._key.decode(window.bounds.upper)] * window.limit
        types = connection.execute(statement(self._text("key_types.sql")), self._of_the_key()).scalar_one()
        return [*first, partial(self._send_what_follows, connection, keys, types, context)]

    def dry_run(self, connection: Connection, window: Window, context: PageContext) -> PageResult:
        """Count one page through the page's own selection."""
        row = self._ask(connection, "dry_run.sql", window, context)
        done = {next(iter(self.classes)): row.read}
        return self._result(row, window, {**done, "up_to_date": row.passed - row.read})

    def verify(self, connection: Connection, window: Window, context: PageContext) -> Stretch:
        """Return the rows of one window that still satisfy `where`."""
        row = self._ask(connection, "verify.sql", window, context)
        cursor = window.bounds.upper if row.cursor is None else self._key.encode(row.cursor)
        return Stretch(cursor, [self._key.encode(each) for each in row.missing], row.arrived, row.looked_at)

    def verify_full(self, connection: Connection, stretches: Sequence[Bounds], context: PageContext) -> Stretch:
        """Return the rows of these stretches that still satisfy `where`, by sequential scan."""
        values = _context(context)
        conditions = []
        for number, each in enumerate(stretches):
            suffix = f"_of_{number}"
            values |= self._bounds(each, suffix)
            conditions.append(self._key.window(lower=each.lower is not None, suffix=suffix))
        query = statement(self._text("verify_full.sql", stretches=" OR ".join(f"({each})" for each in conditions)))
        row = connection.execute(query, values).one()
        missing = [self._key.encode(each) for each in row.missing]
        return Stretch(stretches[-1].upper, missing, row.arrived, row.looked_at)

    def recount(self, connection: Connection, claim: PageClaim) -> dict[str, int]:  # noqa: ARG002  nothing to look for
        """Return no counts: a row doesn't show who wrote it, so no class leaves a trace."""
        return {}

    def previous_key(self, connection: Connection, item: str) -> str | None:
        """Look up the previous key by the index, whether the item itself still exists or not."""
        return self._last_key(connection, self._key.before(), self._key.values("item", item))

    def last_key(self, connection: Connection) -> str | None:
        """Look up the greatest key by the index."""
        return self._last_key(connection, "true", {})

    def reached(self, connection: Connection, item: str, keys: Sequence[str]) -> Sequence[bool]:
        """Compare keys as the key's columns do."""
        types = connection.execute(statement(self._text("key_types.sql")), self._of_the_key()).scalar_one()
        columns = [identifier(each) for each in self._key.columns]
        own = (
            f"coalesce((SELECT {column} FROM {escaped(self._quoted_table)} LIMIT 0), :item_{number})"  # noqa: S608
            for number, column in enumerate(columns, start=1)
        )
        parts = zip(*map(self._key.decode, keys), strict=True)
        values = {f"keys_{number}": list(each) for number, each in enumerate(parts, start=1)}
        query = self._text(
            "reached.sql", item=", ".join(own), typed_keys=", ".join(_typed(types)), key_arrays=_arrays(types)
        )
        return connection.execute(statement(query), {**values, **self._key.values("item", item)}).scalars().all()

    def needs_ordinals(self, options: Values) -> bool:  # noqa: ARG002  whatever the options are
        """Return False: it numbers no items."""
        return False

    @cached_property
    def _key(self) -> Key:
        columns = (self.key,) if isinstance(self.key, str) else tuple(self.key)
        return Key(columns, identifier(self.table))

    @property
    def _quoted_table(self) -> str:
        return f"{sql.quoted(self.schema)}.{sql.quoted(self.table)}"

    def _ask(self, connection: Connection, file: str, window: Window, context: PageContext) -> Row[Any]:
        """Execute a statement on the rows of a window and return its row."""
        values = {
            **_context(context),
            **self._bounds(window.bounds),
            "page_limit": window.limit,
            "page_rows": window.rows,
            **self._of_the_key(),
        }
        stretch = self._key.window(lower=window.bounds.lower is not None)
        return connection.execute(statement(self._text(file, window=stretch)), values).one()

    def _of_the_key(self) -> dict[str, object]:
        """Return the parameters of key_types.sql."""
        return {"key_columns": list(self._key.columns), "key_table": self._quoted_table}

    def _bounds(self, bounds: Bounds, suffix: str = "") -> dict[str, str]:
        """Return the parameters of a stretch."""
        lower = {} if bounds.lower is None else self._key.values(f"lower{suffix}", bounds.lower)
        return {**lower, **self._key.values(f"upper{suffix}", bounds.upper)}

    def _last_key(self, connection: Connection, condition: str, values: Values) -> str | None:
        query = statement(self._text("last_key.sql", condition=condition))
        found = connection.execute(query, values).scalar_one_or_none()
        return None if found is None else self._key.encode(found)

    def _result(self, row: Row[Any], window: Window, counts: Mapping[str, int]) -> PageResult:
        cursor = window.bounds.upper if row.cursor is None else self._key.encode(row.cursor)
        return PageResult(cursor, {"read": row.read, **dict.fromkeys(self.classes, 0), **counts})

    def _handled(self, connection: Connection, locked: Row[Any], context: PageContext) -> Mapping[str, int]:
        """Handle locked rows and return the number in each class."""
        if not locked.read:
            return {}
        answer = self._send_what_follows(connection, locked.keys, locked.types, context)
        if self.process is None:
            return {next(iter(self.classes)): locked.read}
        return _processed(self.process, self.classes, answer.all(), connection, context.options)

    def _send_what_follows(
        self, connection: Connection, keys: Sequence[Sequence[str]], types: Sequence[str], context: PageContext
    ) -> CursorResult[Any]:
        """Send the statement after the locks: the author's `apply`, or the one that reads the rows for `process`."""
        page = self._locked_page(types)
        values = {f"keys_{number}": list(parts) for number, parts in enumerate(zip(*keys, strict=True), start=1)}
        if self.process is None:
            own = _WITH.match(self.apply)
            head = f"WITH {own[1] or ''}{page}, " if own else f"WITH {page}\n"
            handle = head + self._authors(self.apply[own.end() :] if own else self.apply)
            return connection.execute(statement(handle), {**values, **_context(context)})
        row = identifier(self.table)
        wanted = ", ".join(f"{row}.{identifier(each)}" for each in self.columns) or f"{row}.*"
        match = " AND ".join(f"{row}.{identifier(each)} = locked.{identifier(each)}" for each in self._key.columns)
        query = "SELECT {wanted} FROM page AS locked JOIN {table} AS {row} ON {match} ORDER BY {columns}"
        return connection.execute(
            statement(f"WITH {page}\n{self._composed(query, wanted=wanted, match=match)}"), values
        )

    def _locked_page(self, types: Sequence[str]) -> str:
        """Return the relation `page`, as an element of WITH, for a key whose columns have these types."""
        named = zip(_typed(types), self._key.columns, strict=True)
        typed = ", ".join(f"{each} AS {identifier(column)}" for each, column in named)
        return self._text("locked_page.sql", typed_keys=typed, key_arrays=_arrays(types))

    def _text(self, file: str, **parts: str) -> str:
        """Return the statement of an SQL file."""
        return self._composed(load_sql("backfill_tasks.backfills", f"sql_backfill/{file}"), **parts)

    def _composed(self, template: str, **parts: str) -> str:
        """Fill a template with the table, the key, the author's SQL and these parts."""
        arrived = (
            f"coalesce(({self._authors(self.arrived_at)}\n) >= :started_at, false)" if self.arrived_at else "false"
        )
        return template.format(
            table=escaped(self._quoted_table),
            row=identifier(self.table),
            # coalesce keeps a subquery from becoming a join, which might read all of the other table first.
            where=f"coalesce(({self._authors(self.where)}\n), false)",
            set=self._authors(self.set),
            arrived=arrived,
            **self._key.fragments,
            **parts,
        )

    def _authors(self, text: str) -> str:
        """Return the author's SQL with its options as parameters; escape any other colon."""
        types = {each.name: _TYPES.get(type(each.kind), "text") for each in self.options}

        def bound(found: re.Match[str]) -> str:
            kind = types.get(found[1] or "")
            return f"CAST(:option_{found[1]} AS {kind})" if kind else "\\" + found[0]

        return _COLON.sub(bound, text.replace("{host}", sql.quoted(self.schema)))


#: The beginning of a statement with a WITH of its own, after comments.
_WITH = re.compile(r"(?:\s|--[^\n]*\n)*WITH\s+(RECURSIVE\s+)?", re.IGNORECASE)


def _typed(types: Sequence[str]) -> list[str]:
    """Return the columns of `_arrays`, cast to a key's types."""
    return [f"CAST(key_{number} AS {escaped(kind)})" for number, kind in enumerate(types, start=1)]


def _arrays(types: Sequence[str]) -> str:
    """Return the parameters `keys_1` and so on, the arrays of the texts of a key's columns."""
    return ", ".join(f"CAST(:keys_{number} AS text[])" for number in range(1, len(types) + 1))


def _own(options: Values) -> dict[str, Any]:
    """Return the run's own options as parameters, under names that no other parameter has."""
    return {f"option_{name}": value for name, value in options.items()}


def _context(context: PageContext) -> dict[str, Any]:
    return {**_own(context.options), "started_at": context.started_at}


def _processed(
    process: Process, classes: Mapping[str, str], rows: Sequence[Row[Any]], connection: Connection, options: Values
) -> Mapping[str, int]:
    """Call a plug-in's function on rows and return its counts.

    Raises:
        ItemsFailed: the function raised an error of its own, or its counts don't add up.
        DBAPIError, RowChanged: the function raised them.
    """
    try:
        counts = process(rows, connection, **options)
    except (DBAPIError, RowChanged, ItemsFailed):
        raise
    except Exception as error:
        raise ItemsFailed(f"{type(error).__name__} in {_place(process, error)}") from error
    if counts is None:
        return {next(iter(classes)): len(rows)}
    if not counts.keys() <= classes.keys() or sum(counts.values()) != len(rows):
        raise ItemsFailed(f"it got {len(rows)} rows, but counted {dict(counts)}")
    return counts


def _place(process: Process, error: Exception) -> str:
    """Return where an error was raised: the innermost line in the plug-in's own file. It repeats no value of a row."""
    frames = traceback.extract_tb(error.__traceback__)
    code = getattr(process, "__code__", None)
    own = [each for each in frames if code is not None and each.filename == code.co_filename]
    frame = (own or frames)[-1]
    return f"{frame.name} ({frame.filename.rpartition('/')[2]}, line {frame.lineno})"
