"""A slow oracle for `why`: it sees the host's tables before each page, and judges in Python what the page does."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from integration.site import OUR_KEY, Row, Site

from backfill_tasks.engine.model import Run, RunId
from backfill_tasks.scoring.jobs import DISQUALIFYING


@dataclass(frozen=True)
class Seen:
    """Where a run put a lead: its lane, its page, and what the page did with it, or why it passed it over."""

    lane: int
    page: int
    what: frozenset[str]


@dataclass(frozen=True)
class Tables:
    """The host's rows at one moment."""

    leads: Mapping[str, Row]
    jobs: Mapping[str, Row]
    wrote: frozenset[str]
    refused: frozenset[str]

    @classmethod
    def read(cls, site: Site) -> "Tables":
        host = site.host
        return cls(
            {row["id"]: row for row in host.rows('SELECT * FROM "Lead"')},
            {row["dedupeKey"]: row for row in host.rows('SELECT * FROM "BackgroundJob"')},
            frozenset(host.values("""SELECT DISTINCT "leadId" FROM "Message" WHERE direction = 'inbound'""")),
            frozenset(host.values("SELECT lead FROM refused")),
        )

    def judge(self, lead: str, options: Mapping[str, Any]) -> frozenset[str]:
        """Return what a page with these options does with a lead, or all reasons to pass it over."""
        row, job = self.leads[lead], self.jobs.get(OUR_KEY + lead)
        reasons = {
            "outside": options["client_ids"] is not None and row["clientId"] not in options["client_ids"],
            "already_scored": row["overallScore"] is not None and not options["rescore_all"],
            "no_inbound": lead not in self.wrote,
        }
        if any(reasons.values()):
            return frozenset(name for name, holds in reasons.items() if holds)
        if row["sentimentTag"] in DISQUALIFYING:
            return frozenset({"disqualified"})
        if job is None:
            return frozenset({"quarantined" if lead in self.refused else "inserted"})
        known = {"PENDING": "refreshed", "SUCCEEDED": "requeued", "FAILED": "requeued"}
        return frozenset({known.get(job["status"], "in_flight")})


@dataclass
class Witness:
    """Delivers a site's pages and remembers what each of them did with each lead. The leads' ids never change."""

    site: Site
    seen: dict[tuple[RunId, str], Seen] = field(default_factory=dict)

    def deliver(self, pages: int | None = None) -> None:
        """Deliver this many waiting messages; None: all of them, and what follows from them."""
        while self.site.waiting and pages != 0:
            message = self.site.waiting[0]
            before, run = Tables.read(self.site), self.site.read(message.run)
            self.site.deliver()
            self._watch(before, run, self.site.read(message.run))
            pages = None if pages is None else pages - 1

    def retry(self, run: RunId) -> None:
        """Retry a run's quarantined leads, and remember what became of those that left the quarantine."""
        before = Tables.read(self.site)
        for tried in self.site.parts.retrier.retry(run):
            if tried.outcome == "went through":
                was = self.seen[run, tried.item]
                options = self.site.read(run).parameters.options
                self.seen[run, tried.item] = Seen(was.lane, was.page, before.judge(tried.item, options))

    def _watch(self, before: Tables, was: Run, run: Run) -> None:
        for old, new in zip(was.lanes, run.lanes, strict=True):
            if new.page == old.page:
                continue
            for lead in self.between(before.leads, old.position, new.cursor):
                what = before.judge(lead, run.parameters.options)
                self.seen[run.id, lead] = Seen(new.number, new.page, what)

    def between(self, leads: Iterable[str], lower: str | None, upper: str | None) -> list[str]:
        """Return the leads after `lower`, up to and including `upper`, in the database's own order."""
        return self.site.host.values(
            "SELECT each FROM unnest(%s::text[]) AS each"
            " WHERE (%s::text IS NULL OR each > %s) AND (%s::text IS NULL OR each <= %s)",
            list(leads),
            lower,
            lower,
            upper,
            upper,
        )

    def on_page(self, run: RunId, lead: str) -> frozenset[str]:
        """Return everything that a lead's page did with any lead; for a lead it didn't see, what all pages did."""
        of_run = {key: seen for key, seen in self.seen.items() if key[0] == run}
        mine = of_run.get((run, lead))
        same = [each for each in of_run.values() if mine is None or (each.lane, each.page) == (mine.lane, mine.page)]
        return frozenset().union(*(each.what for each in same))

    def place(self, run: Run, lead: str) -> str:
        """Return where a lead is, seen from a run."""
        for lane in run.lanes:
            if self.between([lead], lane.bounds.lower, lane.bounds.upper):
                return "passed" if lane.cursor is not None and self.between([lead], None, lane.cursor) else "ahead"
        first = run.lanes[0].bounds.lower
        return "before" if first is not None and self.between([lead], None, first) else "beyond"
