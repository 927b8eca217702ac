"""`why` is right for every lead of a database with every kind of lead, job and run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from integration.site import NOON, OUR_KEY, Site
from integration.witness import Seen, Tables, Witness
from long_forms import long

from backfill_tasks.backfills.lead_scoring import LeadScoring
from backfill_tasks.engine.model import RunId
from backfill_tasks.engine.why import Answer
from backfill_tasks.engine.why import why as explain
from backfill_tasks.errors import UsageError
from backfill_tasks.scoring.jobs import DISQUALIFYING
from sandbox.servers import Servers

#: Ids that a shell, a terminal, SQL, JSON or a sort order may get wrong.
WEIRD = (
    "", " ", "'", '"', "\\", "%", "_", "{}", "NULL", "null", "é", "É", "e\u0301", "ß", "线索:1", "a\tb", "a\nb",
    "\x1b[31m", "-x", "--json", "ID", "Id", "id", "i d", "1", "01", "10", "2", "~", "{a,b}", ":item", "x" * 900,
)  # fmt: skip


def ask(site: Site, item: str, backfill: str = "lead-scoring") -> Answer:
    with site.engine.begin() as connection:
        return explain(connection, site.parts.backfills[backfill], item, statement_ms=15_000)


@dataclass(frozen=True)
class Story:
    """A host with a history of runs, and the witness who saw it."""

    site: Site
    witness: Witness
    runs: tuple[RunId, ...]
    answers: Mapping[str, Answer]


@pytest.fixture(scope="module", params=[*long("C"), "en_US.UTF-8"])
def story(request: pytest.FixtureRequest, make_database: Callable[..., str], server: Servers) -> Iterator[Story]:
    locale = None if request.param == "C" else request.param
    site = Site(make_database(locale=locale), server.redis_url)
    site.create()
    site.restore()
    site.host.refuse_jobs_of()
    yield tell(site)
    site.close()


def add_leads(site: Site) -> None:
    """Add leads of every kind, spread over the range of ids so that most pages have several kinds."""
    host = site.host
    host.add_client("client-2")
    host.do("""ALTER TYPE "BackgroundJobStatus" ADD VALUE IF NOT EXISTS 'CANCELLED'""")
    host.add_leads(*WEIRD)
    for number in range(3):
        for client in ("client-1", "client-2"):
            at = f"{number}-{client}"
            for kind in ("fresh", "poison", "running", "cancelled", "pending", "succeeded", "failed"):
                host.add_leads(f"{at}-{kind}", clientId=client)
            for status in ("RUNNING", "CANCELLED", "PENDING", "SUCCEEDED", "FAILED"):
                host.add_job(f"{at}-{status.lower()}", status, clientId=client)
            host.add_leads(f"{at}-silent", inbound=0, clientId=client)
            host.add_leads(f"{at}-scored", clientId=client, overallScore=3, scoredAt=NOON)
            host.add_leads(f"{at}-scored-silent", inbound=0, clientId=client, overallScore=2, scoredAt=NOON)
            host.add_leads(f"{at}-untimed", clientId=client, overallScore=2)
            host.add_leads(f"{at}-spelled", clientId=client, sentimentTag="bounced")
            for tag in DISQUALIFYING:
                host.add_leads(f"{at}-{tag}", clientId=client, sentimentTag=tag)


def act_as_the_host(site: Site) -> None:
    """Do what a host does between two runs."""
    host, now = site.host, datetime.now(UTC).replace(tzinfo=None)
    later = now + timedelta(seconds=1)

    def job(lead: str, change: str, *values: object) -> None:
        host.do(f'UPDATE "BackgroundJob" SET {change} WHERE "dedupeKey" = %s', *values, OUR_KEY + lead)

    def lead(id_: str, change: str, *values: object) -> None:
        host.do(f'UPDATE "Lead" SET {change} WHERE id = %s', *values, id_)

    done = """status = 'SUCCEEDED', attempts = 1, "startedAt" = %s, "finishedAt" = %s"""
    job("0-client-1-fresh", done, now, later)  # the host's runner scores it
    lead("0-client-1-fresh", '"overallScore" = 4, "scoredAt" = %s', now + timedelta(milliseconds=300))
    job("1-client-1-fresh", done, now, later)  # it leaves no score
    job("2-client-1-fresh", """status = 'FAILED', attempts = 3, "lastError" = '429 to ann@example.org'""")
    job("0-client-2-fresh", """status = 'RUNNING', attempts = 1, "lockedBy" = 'runner-9', "lockedAt" = %s""", now)
    job("1-client-2-fresh", """attempts = 1, "lastError" = 'backfill: the request timed out'""")
    job("2-client-2-fresh", """"clientId" = 'client-1', status = 'SUCCEEDED', "finishedAt" = %s""", now)
    host.do('DELETE FROM "Message" WHERE id = %s', "0-client-1-pending/1")  # and its job with it
    host.do('DELETE FROM "BackgroundJob" WHERE "dedupeKey" = %s', OUR_KEY + "1-client-1-pending")
    lead("0-client-1-succeeded", """"clientId" = 'client-2'""")
    lead("0-client-1-Bounced", '"overallScore" = 3, "scoredAt" = %s', now)  # scored anew
    lead("1-client-1-Bounced", """"sentimentTag" = 'Interested'""")
    lead("1-client-1-spelled", """"sentimentTag" = 'Bounced'""")
    for each in ("0-client-1-failed", "0-client-2-silent", "é"):
        host.do('DELETE FROM "Lead" WHERE id = %s', each)


def tell(site: Site) -> Story:
    """Walk the host with runs of every kind and in every state."""
    host, witness = site.host, Witness(site)
    add_leads(site)
    poison = [f"{number}-client-{client}-poison" for number in range(3) for client in (1, 2)]
    host.refuse_jobs_of(*poison)
    whole = site.start(limit=7, lanes=2)
    witness.deliver(6)
    site.runs.pause(whole.id, "paused by command")
    host.add_leads("!behind", "0-behind", "0-behind-silent", "zz-beyond", createdAt=soon())
    site.waiting.clear()
    site.runs.resume(whole.id, single_batch=False)
    witness.deliver()
    host.refuse_jobs_of(*poison[2:])
    witness.retry(whole.id)
    act_as_the_host(site)
    of_a_client = site.start(limit=5, lanes=1, client_ids=["client-2"])
    witness.deliver()
    again = site.start(limit=4, lanes=2, rescore_all=True)
    witness.deliver(8)
    site.runs.cancel(again.id)
    batch = site.start(limit=4, lanes=2, single_batch=True, after="0-client-2")
    witness.deliver()
    reserved = site.start(limit=10, lanes=1, score_here=True)
    witness.deliver(4)
    host.do('DELETE FROM "BackgroundJob" WHERE "dedupeKey" = %s', OUR_KEY)  # of the lead without an id
    for lead in ("ID", "i d"):
        done = """UPDATE "BackgroundJob" SET status = 'SUCCEEDED', "finishedAt" = %s WHERE "dedupeKey" = %s"""
        host.do(done, soon(), OUR_KEY + lead)
    host.do("""UPDATE "Lead" SET "clientId" = 'client-2' WHERE id = 'i d'""")
    answers = {lead: ask(site, lead) for lead in host.values('SELECT id FROM "Lead" ORDER BY id')}
    runs = tuple(each.id for each in (whole, of_a_client, again, batch, reserved))
    return Story(site, witness, runs, answers)


#: What became of a lead that no page saw although its lane has passed its place.
LATER = Seen(0, 0, frozenset({"created_later"}))


def soon() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def test_every_lead_of_every_run_is_where_the_witness_saw_it(story: Story) -> None:
    for lead, answer in story.answers.items():
        passages = {each.run: each for each in answer.passages}
        assert list(passages) == list(reversed(story.runs))
        for run in story.runs:
            found, seen = passages[run], story.witness.seen.get((run, lead))
            assert found.place == story.witness.place(story.site.read(run), lead), (lead, run)
            if seen is not None:
                assert found.page is not None
                assert (found.lane, found.page.number) == (seen.lane, seen.page), (lead, run)


def test_what_the_witness_saw_is_never_excluded(story: Story) -> None:
    for lead, answer in story.answers.items():
        for each in answer.passages:
            if each.page is not None:
                seen = story.witness.seen.get((each.run, lead), LATER)
                assert seen.what & set(answer.fates[each.run].classes), (lead, each, answer.explanation)


def test_an_answer_has_several_classes_only_if_the_page_has_them(story: Story) -> None:
    ambiguous = 0
    for lead, answer in story.answers.items():
        for each in answer.passages:
            if each.page is not None and len(said := set(answer.fates[each.run].classes)) > 1:
                on_the_page = story.witness.on_page(each.run, lead)
                assert said & set(LeadScoring.classes) <= on_the_page, (lead, each, said)
                ambiguous += 1
    assert 0 < ambiguous < len(story.answers) * len(story.runs) / 2


@pytest.mark.parametrize(
    ("run", "lead", "fate"),
    [
        (0, "0-client-1-fresh", "inserted"),
        (0, "id", "inserted"),
        (0, "", "inserted"),
        (0, "1-client-2-spelled", "inserted"),
        (0, "1-client-1-Opted Out", "disqualified"),
        (0, "0-client-2-scored", "already_scored"),
        (0, "1-client-1-scored-silent", "already_scored"),
        (0, "0-client-1-silent", "no_inbound"),
        (0, "0-behind", "created_later"),
        (0, "0-behind-silent", "created_later"),
        (0, "0-client-1-poison", "inserted"),
        (0, "2-client-2-poison", "quarantined"),
        (1, "id", "outside"),
        (1, "0-client-1-succeeded", "refreshed"),
    ],
)
def test_the_class_is_exact_wherever_something_tells_it(story: Story, run: int, lead: str, fate: str) -> None:
    assert story.answers[lead].fates[story.runs[run]].classes == (fate,)


def test_every_verdict_is_what_the_rows_say(story: Story) -> None:
    kinds = set()
    for lead, answer in story.answers.items():
        assert answer.verdict.kind == expected(story, lead), (lead, answer.verdict)
        kinds.add(answer.verdict.kind)
    assert kinds >= {
        "running", "waiting", "reserved", "scored", "disqualified", "quarantined", "failed", "without_score",
        "unknown_status", "never_wrote", "job_gone",
    }  # fmt: skip


def expected(story: Story, lead: str) -> str:
    """Return the kind of verdict on a lead, from its rows and from what the witness saw."""
    tables = Tables.read(story.site)
    row, job = tables.leads[lead], tables.jobs.get(OUR_KEY + lead)
    if job and job["status"] in ("PENDING", "RUNNING"):
        due = job["runAt"] <= datetime.now(UTC).replace(tzinfo=None)
        return "running" if job["status"] == "RUNNING" else "waiting" if due else "reserved"
    if row["overallScore"] is not None:
        return "disqualified" if row["scoreReasoning"] and scored_by_page(story, row["scoredAt"]) else "scored"
    passed = [story.witness.seen.get((run, lead), LATER).what for run in reversed(story.runs)]
    written = [what for what in passed if what & {"quarantined", "inserted", "requeued", "refreshed"}]
    if written and written[0] == {"quarantined"}:
        return "quarantined"
    if job:
        return {"FAILED": "failed", "SUCCEEDED": "without_score"}.get(job["status"], "unknown_status")
    return "never_wrote" if lead not in tables.wrote else of_runs(story, lead, is_written=bool(written))


def of_runs(story: Story, lead: str, *, is_written: bool) -> str:
    runs = [story.site.read(run) for run in reversed(story.runs)]
    for run in runs:
        if run.state in ("running", "paused", "failed") and story.witness.place(run, lead) == "ahead":
            return "ahead" if run.state == "running" else "halted"
    return "job_gone" if is_written else "passed"


def scored_by_page(story: Story, at: datetime) -> bool:
    times = story.site.host.values("SELECT at AT TIME ZONE 'UTC' FROM backfill.page")
    return any(abs(each - at) < timedelta(milliseconds=1) for each in times)


def test_a_deleted_lead_is_known_by_what_the_runs_recorded(story: Story) -> None:
    answers = [ask(story.site, lead) for lead in ("0-client-1-failed", "é")]

    assert [(each.now.exists, each.verdict.kind) for each in answers] == [(False, "gone")] * 2
    assert all(story.runs[0] in each.verdict.said for each in answers)


def test_a_deleted_lead_that_no_run_recorded_is_unknown(story: Story) -> None:
    with pytest.raises(
        UsageError, match="none of the leads has the id '0-client-2-silent', and no run has recorded it"
    ):
        ask(story.site, "0-client-2-silent")
