"""The baselines: the tool's own page statement in a plain loop, and one upsert per lead."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing.synchronize import Barrier

import psycopg
from sqlalchemy import Engine, text

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.engine.contract import PageContext
from backfill_tasks.engine.database import connect, parse_url
from backfill_tasks.engine.model import Bounds, Window
from backfill_tasks.engine.page.statement import PAGE_ROWS
from backfill_tasks.scoring.jobs import DISQUALIFYING, KEY_PREFIX
from benchmarks.walk import Walk

_OPTIONS = LeadScoring().with_defaults({})
_TOGETHER_SECONDS = 60.0

# ---------------------------------------------------------------- the bare page statement


@dataclass(frozen=True)
class _Stretch:
    """What one process walked, by the monotonic clock that all processes share."""

    leads: int
    began: float
    ended: float


def bare(database_url: str, *, lanes: int, limit: int) -> Walk:
    """Run the page statement in a plain loop, one process per lane: no Celery, Redis or ledger; the upper bound."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(lanes)
    with ProcessPoolExecutor(lanes, context, initializer=_remember, initargs=(together,)) as pool:
        stretches = list(pool.map(partial(_walk, database_url, limit), _cut(database_url, lanes)))
    seconds = max(each.ended for each in stretches) - min(each.began for each in stretches)
    return Walk(sum(each.leads for each in stretches), seconds)


def _engine(database_url: str) -> Engine:
    """Return the tool's own connection, in autocommit and with a page's planner settings."""
    address = parse_url(database_url)
    address.conninfo["options"] = "-c enable_seqscan=off -c jit=off"
    return connect(address).execution_options(isolation_level="AUTOCOMMIT")


def _cut(database_url: str, lanes: int) -> list[Bounds]:
    with _engine(database_url).connect() as connection:
        uppers = LeadScoring().split(connection, _OPTIONS, after=None, lanes=lanes, smallest=1)
    return [Bounds(lower, upper) for lower, upper in zip([None, *uppers], uppers, strict=False)]


def _remember(together: Barrier) -> None:
    """Keep the barrier in a global: a process can inherit it, but not receive it as an argument."""
    global _together  # noqa: PLW0603
    _together = together


def _walk(database_url: str, limit: int, bounds: Bounds) -> _Stretch:
    backfill = LeadScoring()
    context = PageContext(_OPTIONS, datetime.now(UTC))
    leads, cursor = 0, bounds.lower
    with _engine(database_url).connect() as connection:
        connection.execute(text("SELECT 1"))
        _together.wait(_TOGETHER_SECONDS)
        began = time.monotonic()
        while cursor != bounds.upper:
            page = backfill.page(connection, Window(Bounds(cursor, bounds.upper), limit, PAGE_ROWS), context)
            leads, cursor = leads + page.counts["read"], page.cursor
        return _Stretch(leads, began, time.monotonic())


_together: Barrier

# ---------------------------------------------------------------- one upsert a lead

_PAGE = """
SELECT lead.id, lead."clientId", lead."sentimentTag", anchor.id
FROM "Lead" AS lead
CROSS JOIN LATERAL (
  SELECT id FROM "Message" WHERE "leadId" = lead.id AND direction = 'inbound' ORDER BY "sentAt" DESC LIMIT 1
) AS anchor
WHERE lead."overallScore" IS NULL AND lead.id > %s
ORDER BY lead.id
LIMIT %s
"""

_UPSERT = """
INSERT INTO "BackgroundJob" (
  id, type, status, "dedupeKey", "clientId", "leadId", "messageId", "runAt", attempts, "maxAttempts", "updatedAt"
)
VALUES (gen_random_uuid()::text, 'LEAD_SCORING_POST_PROCESS', 'PENDING', %s, %s, %s, %s, %s, 0, 3, %s)
ON CONFLICT ("dedupeKey") DO UPDATE
SET status = 'PENDING', attempts = 0, "runAt" = EXCLUDED."runAt", "updatedAt" = EXCLUDED."updatedAt",
  "lockedAt" = NULL, "lockedBy" = NULL, "startedAt" = NULL, "finishedAt" = NULL, "lastError" = NULL
"""

_DISQUALIFY = """
UPDATE "Lead"
SET "fitScore" = 1, "intentScore" = 1, "overallScore" = 1, "scoredAt" = %s, "scoreReasoning" = %s, "updatedAt" = %s
WHERE id = %s
"""


def one_by_one(database_url: str, *, leads: int, limit: int) -> Walk:
    """Read a page of leads at once, then write them one statement after another, as a script does.

    The script is given its best case: one connection, statements prepared by the driver, each its own transaction.
    """
    done, cursor = 0, ""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET enable_seqscan = off")
        began = time.monotonic()
        while done < leads:
            rows = connection.execute(_PAGE, (cursor, min(limit, leads - done))).fetchall()
            if not rows:
                break
            for lead, client, tag, anchor in rows:
                now = datetime.now(UTC).replace(tzinfo=None)
                if tag in DISQUALIFYING:
                    connection.execute(_DISQUALIFY, (now, f"Automatically disqualified: {tag}", now, lead))
                else:
                    connection.execute(_UPSERT, (KEY_PREFIX + lead, client, lead, anchor, now, now))
            done, cursor = done + len(rows), rows[-1][0]
        return Walk(done, time.monotonic() - began)
