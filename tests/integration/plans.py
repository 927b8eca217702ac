"""Query plans of the engine's statements, collected on its own connection with its own settings."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event

from sandbox.host.sample import TABLES

Node = Mapping[str, Any]


@dataclass(frozen=True)
class Scan:
    """One scan of a host table, with the number of rows it read."""

    table: str
    kind: str
    by_condition: bool
    rows: float

    def __str__(self) -> str:
        return f"{self.kind} of {self.table}: {self.rows:,.0f} rows{'' if self.by_condition else ', all of it'}"


@dataclass(frozen=True)
class Plan:
    """The executed plan of one statement."""

    root: Node
    tables: Collection[str] = TABLES

    @property
    def scans(self) -> list[Scan]:
        """Return every executed scan of a host table."""
        found = [_scan(node, self.tables) for node in _nodes(self.root)]
        return [scan for scan in found if scan is not None]

    @property
    def whole(self) -> list[str]:
        """Return the scans that read a whole table or index, whether executed or only planned."""
        return [str(scan) for scan in self.scans if not scan.by_condition]

    def rows(self, table: str) -> float:
        """Return how many rows of a table, or entries of its indexes, were read, including discarded ones."""
        return sum(scan.rows for scan in self.scans if scan.table == table)


@contextmanager
def explained(engine: Engine, tables: Collection[str] = TABLES) -> Iterator[list[Plan]]:
    """Collect the plan of every statement on the host's tables, right before the engine runs it.

    Each statement is executed twice: once to be explained and rolled back, then for good.
    """
    plans: list[Plan] = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any) -> None:
        if not any(f'"{table}"' in statement or f"backfill.{table}" in statement for table in tables):
            return
        with connection.connection.driver_connection.cursor() as cursor:
            cursor.execute("SAVEPOINT explained")
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            (answer,) = cursor.fetchone()
            cursor.execute("ROLLBACK TO SAVEPOINT explained")
        content = json.loads(answer) if isinstance(answer, str) else answer
        plans.append(Plan(content[0]["Plan"], tables))

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        event.remove(engine, "before_cursor_execute", explain)


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _indexed(index: str, tables: Collection[str]) -> str:
    """Return the table of an index, by its name."""
    return max((table for table in tables if index.startswith(f"{table}_")), key=len, default="")


def _scan(node: Node, tables: Collection[str]) -> Scan | None:
    kind = str(node["Node Type"])
    table = node.get("Relation Name") or _indexed(str(node.get("Index Name", "")), tables)
    # A bitmap heap scan reads the rows that its index scans found: count them once.
    if not kind.endswith("Scan") or kind == "Bitmap Heap Scan" or table not in tables:
        return None
    thrown_away = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    rows = node["Actual Rows"] + sum(node.get(name, 0) for name in thrown_away)
    return Scan(table, kind, "Index Cond" in node, rows * node["Actual Loops"])
