"""Backfills of a test's own tables, run by the engine: a plug-in's code without its package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from integration.site import STATEMENT_MS, Site
from unbounded import only

from backfill_tasks.backfills.sql_backfill import SqlBackfill
from backfill_tasks.engine.chain import Chain
from backfill_tasks.engine.contract import Backfill, Host
from backfill_tasks.engine.dry_run import DryRun
from backfill_tasks.engine.ledger import NewRun
from backfill_tasks.engine.model import Run
from backfill_tasks.engine.quarantine import Retrier, Tried
from backfill_tasks.engine.runs import Runs, cut, new_id
from backfill_tasks.engine.verification import Verification, Verifier
from backfill_tasks.options import resolve
from backfill_tasks.settings import load


@dataclass(frozen=True)
class Walk:
    """One backfill on a site's database; the test plays Celery's part."""

    site: Site
    backfill: Backfill

    @classmethod
    def of(cls, site: Site, backfill: Backfill) -> "Walk":
        return cls(site, backfill.on(Host("public", load({"DATABASE_URL": site.url, "REDIS_URL": site.redis_url}))))

    @property
    def known(self) -> Mapping[str, Backfill]:
        return {self.backfill.name: self.backfill}

    @property
    def chain(self) -> Chain:
        chain = self.site.parts.chain
        return replace(chain, pages=replace(chain.pages, backfills=self.known))

    @property
    def runs(self) -> Runs:
        return replace(self.site.runs, assemble_chain=lambda: self.chain, backfills=self.known)

    def start(self, *, limit: int = 500, lanes: int = 1, cursor: str | None = None, **own: Any) -> Run:
        """Start a run; its first messages wait in the site's `waiting`."""
        asked = {"limit": limit, "lanes": lanes, **own} | ({"cursor": cursor} if cursor is not None else {})
        resolved = resolve(self.backfill, asked=asked, defaults={})
        parameters = replace(resolved, pace=only())
        cut_lanes = cut(self.site.engine, self.backfill, parameters, smallest=1)
        new = NewRun(new_id(), parameters, cut_lanes, single_batch=False)
        return self.site.read(self.runs.start(new))

    def whole_run(self, **parameters: Any) -> Run:
        """Do a run from start to finish."""
        run = self.start(**parameters)
        self.deliver_all()
        return self.site.read(run.id)

    def deliver_all(self) -> None:
        while self.site.waiting:
            self.chain.step(self.site.waiting.pop(0))

    def dry_run(self, *, limit: int = 500, lanes: int = 1, **own: Any) -> Run:
        """Do a dry run from start to finish."""
        asked = {"limit": limit, "lanes": lanes, **own}
        parameters = resolve(self.backfill, asked=asked, defaults={})
        cut_lanes = cut(self.site.engine, self.backfill, parameters, smallest=1)
        dry = DryRun(self.site.engine, self.backfill, parameters, new_id(), cut_lanes, STATEMENT_MS)
        with dry.walking():
            for walk in dry._walks:  # noqa: SLF001  wait for all lanes
                walk.result()
        return dry.read()

    def verify(self, run: Run, *, full: bool = False) -> Verification:
        return Verifier(self.site.engine, self.backfill, STATEMENT_MS, full=full).verify(self.site.read(run.id))

    def retry(self, run: Run) -> Sequence[Tried]:
        retrier: Retrier = replace(self.site.parts.retrier, backfills=self.known)
        return list(retrier.retry(run.id))

    def split(self, *, lanes: int, after: str | None = None, smallest: int = 1, **own: Any) -> list[str]:
        options = self.backfill.with_defaults(own)
        with self.site.engine.begin() as connection:
            return self.backfill.split(connection, options, after=after, lanes=lanes, smallest=smallest)

    def quarantined(self, run: Run) -> dict[str, str]:
        """Return the errors of the items in quarantine."""
        rows = self.site.host.rows("SELECT item, error FROM backfill.quarantine WHERE run_id = %s", run.id)
        return {row["item"]: row["error"] for row in rows}


def make_table(site: Site, columns: str, rows: Sequence[Sequence[object]]) -> None:
    """Recreate the table `thing` with these rows. In a database that isn't UTF-8, they use the URL's encoding."""
    site.host.do("DROP TABLE IF EXISTS thing")
    site.host.do(f"CREATE TABLE public.thing ({columns})")
    with psycopg.connect(site.url, autocommit=True) as connection, connection.cursor() as cursor:
        for row in rows:
            places = ", ".join(["%s"] * len(row))
            cursor.execute(f"INSERT INTO thing VALUES ({places})".encode(), row)


def marking(**changes: Any) -> SqlBackfill:
    """Return a backfill of the table `thing` that marks its rows as done."""
    form: dict[str, Any] = {} if {"set", "apply", "process"} & changes.keys() else {"set": "done = true"}
    return SqlBackfill(**{"name": "mark", "table": "thing", "key": "id", "where": "NOT done", **form, **changes})
