"""Message roll-ups: each lead's newest messages, never older than what it has, while webhooks write them too."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from integration.site import NOON, STARTED, STATEMENT_MS, Host, Site

from backfill_tasks.backfills.message_rollups import MessageRollups
from backfill_tasks.engine.contract import PageContext
from backfill_tasks.engine.model import Bounds, PageResult, Run, Window
from backfill_tasks.engine.page.statement import PAGE_ROWS
from backfill_tasks.engine.verification import Verifier
from backfill_tasks.options import check

ROOT = Path(__file__).parents[2]

NAME = MessageRollups.name

ROLLUPS = ("lastInboundAt", "lastOutboundAt", "lastMessageAt", "lastMessageDirection")
CONTEXT = PageContext({"client_ids": None}, STARTED)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def rollups(host: Host, lead: str) -> tuple[object, ...]:
    row = host.lead(lead)
    return tuple(row[name] for name in ROLLUPS)


def write(host: Host, lead: str, direction: str, minute: int, **columns: object) -> None:
    """Add a message that the host wrote at this minute."""
    moment = {"sentAt": at(minute), "createdAt": at(minute), **columns}
    host.add_message(f"{lead}/{direction}/{minute}", lead, direction=direction, **moment)


def page(site: Site, *, limit: int = 500, rows: int = PAGE_ROWS, client_ids: list[str] | None = None) -> PageResult:
    """Do one page of the backfill without the engine, and commit it."""
    window = Window(Bounds(None, site.last_lead()), limit, rows)
    with site.engine.begin() as connection:
        return MessageRollups().page(connection, window, PageContext({"client_ids": client_ids}, STARTED))


def dry_run(site: Site) -> PageResult:
    with site.engine.begin() as connection:
        return MessageRollups().dry_run(connection, Window(Bounds(None, site.last_lead()), 500, PAGE_ROWS), CONTEXT)


def runbook_statement() -> str:
    """Return the runbook's statement for leads that a run leaves alone."""
    runbook = (ROOT / "docs/runbook.md").read_text()
    found = re.search(r"#### What a run leaves alone.*?```sql\n(.*?)```", runbook, re.DOTALL)
    assert found
    return found[1]


def whole_run(site: Site, **parameters: object) -> Run:
    return site.whole_run(backfill=NAME, **parameters)


class TestWhatALeadGets:
    def test_the_newest_message_of_each_direction_and_the_newest_of_all(self, site: Site) -> None:
        site.host.add_leads("a", inbound=0)
        for direction, minute in (("inbound", 1), ("outbound", 4), ("inbound", 3), ("outbound", 2)):
            write(site.host, "a", direction, minute)

        result = page(site)

        assert rollups(site.host, "a") == (at(3), at(4), at(4), "outbound")
        assert result.counts == {"read": 1, "updated": 1}

    @pytest.mark.parametrize(
        ("direction", "expected"),
        [("inbound", (at(1), None, at(1), "inbound")), ("outbound", (None, at(1), at(1), "outbound"))],
    )
    def test_nothing_for_a_direction_in_which_nobody_wrote(
        self, site: Site, direction: str, expected: tuple[object, ...]
    ) -> None:
        site.host.add_leads("a", inbound=0)
        write(site.host, "a", direction, 1)

        page(site)

        assert rollups(site.host, "a") == expected

    def test_of_two_messages_at_one_moment_the_inbound_one_is_the_last(self, site: Site) -> None:
        site.host.add_leads("a", inbound=0)
        write(site.host, "a", "outbound", 1)
        write(site.host, "a", "inbound", 1)

        page(site)

        assert rollups(site.host, "a") == (at(1), at(1), at(1), "inbound")

    def test_all_else_stays_the_time_of_its_last_change_too(self, site: Site) -> None:
        site.host.add_leads("a")
        before = site.host.lead("a")

        page(site)

        assert {**site.host.lead("a"), **dict.fromkeys(ROLLUPS)} == {**before, **dict.fromkeys(ROLLUPS)}

    def test_no_other_table_is_written_and_no_job_made(self, site: Site) -> None:
        site.host.add_leads("a", "b")
        before = {key: row for key, row in site.host.versions().items() if key[0] != "Lead"}

        page(site)

        assert {key: row for key, row in site.host.versions().items() if key[0] != "Lead"} == before


#: In the host's schema: the first schema of the search_path is the ledger's here, because the role has its name.
COUNTS = 'CREATE TABLE public."InboxCountsDirty" ("clientId" text PRIMARY KEY, "dirtyAt" timestamp(3) NOT NULL)'


class TestWhatTheInboxCompares:
    def test_the_newest_outbound_message_of_the_hosts_own_is_set_with_the_others(self, site: Site) -> None:
        site.host.add_leads("a", inbound=0)
        write(site.host, "a", "outbound", 1, source="zrg")
        write(site.host, "a", "outbound", 3, source="smartlead")
        write(site.host, "a", "inbound", 2, source="zrg")

        page(site)

        assert rollups(site.host, "a") == (at(2), at(3), at(3), "outbound")
        assert site.host.lead("a")["lastZrgOutboundAt"] == at(1)

    def test_a_lead_that_lacks_only_that_one_takes_part(self, site: Site) -> None:
        current = {"lastOutboundAt": at(1), "lastMessageAt": at(1), "lastMessageDirection": "outbound"}
        site.host.add_leads("a", inbound=0, **current)
        write(site.host, "a", "outbound", 1)

        assert dry_run(site).counts["updated"] == page(site).counts["updated"] == 1
        assert site.host.lead("a")["lastZrgOutboundAt"] == at(1)

    def test_the_counts_of_the_workspaces_that_were_changed_are_marked_as_stale(self, own_site: Site) -> None:
        own_site.host.do(COUNTS)
        own_site.host.do("""INSERT INTO "InboxCountsDirty" VALUES ('client-1', %s)""", NOON)
        for client in ("client-2", "client-3"):
            own_site.host.add_client(client)
        own_site.host.add_leads("a")
        own_site.host.add_leads("b", clientId="client-2")
        own_site.host.add_leads("c", clientId="client-3", inbound=0)

        run = whole_run(own_site)

        assert run.counts == {"read": 2, "updated": 2}, run
        marked = own_site.host.rows('SELECT * FROM "InboxCountsDirty" ORDER BY "clientId"')
        assert [row["clientId"] for row in marked] == ["client-1", "client-2"]
        assert all(row["dirtyAt"] > NOON for row in marked)

    def test_a_page_that_changes_nothing_marks_nothing(self, own_site: Site) -> None:
        own_site.host.add_leads("a")
        whole_run(own_site)
        own_site.host.do(COUNTS)

        whole_run(own_site)

        assert own_site.host.rows('SELECT * FROM "InboxCountsDirty"') == []


class TestWhatIsNewerThanEveryMessage:
    """A webhook may write the lead first and its message afterwards."""

    def test_stays(self, site: Site) -> None:
        newer = {"lastInboundAt": at(9), "lastMessageAt": at(9), "lastMessageDirection": "inbound"}
        site.host.add_leads("a", **newer)

        result = page(site)

        assert result.counts == {"read": 0, "updated": 0}
        assert rollups(site.host, "a") == (at(9), None, at(9), "inbound")

    def test_stays_while_what_lags_beside_it_is_set(self, site: Site) -> None:
        newer = {"lastInboundAt": at(9), "lastMessageAt": at(9), "lastMessageDirection": "inbound"}
        site.host.add_leads("a", **newer)
        write(site.host, "a", "outbound", 5)

        page(site)

        assert rollups(site.host, "a") == (at(9), at(5), at(9), "inbound")


class TestWhichLeads:
    def test_are_those_that_lag_and_they_are_counted_the_same_in_a_dry_run(self, site: Site) -> None:
        site.host.add_leads("lags")
        current = {"lastInboundAt": at(1), "lastMessageAt": at(1), "lastMessageDirection": "inbound"}
        site.host.add_leads("up-to-date", **current)
        site.host.add_leads("wrong-direction", **{**current, "lastMessageDirection": "outbound"})
        site.host.add_leads("silent", inbound=0)

        counted = dry_run(site)
        done = page(site)

        assert counted.counts == {"read": 2, "updated": 2, "up_to_date": 1, "no_message": 1}
        assert done.counts == {"read": 2, "updated": 2}
        assert counted.cursor == done.cursor

    def test_a_second_run_finds_nothing_to_do_and_writes_nothing(self, site: Site) -> None:
        site.host.add_leads("a", "b", "c")
        whole_run(site)
        before = site.host.versions()

        again = whole_run(site)

        assert again.counts["read"] == 0
        assert site.host.versions() == before

    def test_only_those_of_the_workspaces_that_are_asked_for(self, site: Site) -> None:
        site.host.add_client("client-2")
        site.host.add_leads("a")
        site.host.add_leads("b", clientId="client-2")

        page(site, client_ids=["client-2"])

        assert rollups(site.host, "a") == (None, None, None, None)
        assert rollups(site.host, "b") == (at(1), None, at(1), "inbound")

    def test_a_page_ends_at_its_last_lead_or_after_the_last_row_that_it_looked_at(self, site: Site) -> None:
        site.host.add_leads("a", "b", "c")
        site.host.add_leads("d", "e", inbound=0)

        assert page(site, limit=2).cursor == "b"
        assert page(site, rows=4).cursor == "d"
        assert page(site).cursor == "e"

    def test_lanes_hold_about_equally_many_of_them(self, site: Site) -> None:
        site.host.add_leads(*"abcdef")

        run = whole_run(site, lanes=3, limit=1)

        assert [lane.counts["read"] for lane in run.lanes] == [2, 2, 2]


NEWER = """
UPDATE "Lead" SET "lastInboundAt" = %(at)s, "lastMessageAt" = %(at)s, "lastMessageDirection" = 'inbound' WHERE id = 'a'
"""


class TestBesideWebhooks:
    @pytest.fixture
    def patient(self, site: Site) -> Iterator[Site]:
        """A worker with a lock time-out of 10 s, on a host where leads a and b lag."""
        site.host.add_leads("a", "b")
        worker = site.with_settings(BACKFILL_LOCK_TIMEOUT_MS="10000")
        yield worker
        worker.engine.dispose()

    def test_a_newer_value_that_was_written_while_the_page_waited_for_its_row_stays(
        self, site: Site, patient: Site, aside: ThreadPoolExecutor
    ) -> None:
        site.start(backfill=NAME)
        with site.host.session() as webhook:
            webhook.execute(NEWER, {"at": at(8)})
            page_at_work = aside.submit(patient.deliver)
            site.host.wait_until_blocked()
            webhook.commit()

            step = page_at_work.result()

        assert rollups(site.host, "a") == (at(8), None, at(8), "inbound")
        assert rollups(site.host, "b") == (at(1), None, at(1), "inbound")
        assert step.page is not None
        assert step.page.result.counts == {"read": 1, "updated": 1}

    def test_a_lead_that_was_deleted_meanwhile_is_not_counted(
        self, site: Site, patient: Site, aside: ThreadPoolExecutor
    ) -> None:
        site.start(backfill=NAME)
        with site.host.session() as host:
            host.execute("""DELETE FROM "Lead" WHERE id = 'a'""")
            page_at_work = aside.submit(patient.deliver)
            site.host.wait_until_blocked()
            host.commit()

            step = page_at_work.result()

        assert step.page is not None
        assert step.page.result.counts == {"read": 1, "updated": 1}

    def test_messages_and_leads_can_be_added_while_a_page_is_at_work(self, site: Site) -> None:
        site.host.add_leads("a", "b")

        with site.engine.begin() as connection, site.host.session() as webhook:
            MessageRollups().page(connection, Window(Bounds(None, "b"), 500, PAGE_ROWS), CONTEXT)
            webhook.execute("SET LOCAL lock_timeout = 1")
            webhook.execute(
                """INSERT INTO "Message" (id, "leadId", direction, body) VALUES ('new', 'a', 'inbound', 'Hi')"""
            )
            webhook.execute("""INSERT INTO "Lead" (id, "clientId", "updatedAt") VALUES ('aa', 'client-1', now())""")

    def test_a_lead_that_is_up_to_date_is_not_even_locked(self, site: Site) -> None:
        current = {"lastInboundAt": at(1), "lastMessageAt": at(1), "lastMessageDirection": "inbound"}
        site.host.add_leads("a", **current)
        site.host.add_leads("b")

        with site.engine.begin() as connection, site.host.session() as webhook:
            MessageRollups().page(connection, Window(Bounds(None, "b"), 500, PAGE_ROWS), CONTEXT)

            webhook.execute("""SELECT FROM "Lead" WHERE id = 'a' FOR UPDATE NOWAIT""")


REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'this lead is under review' USING ERRCODE = '23514'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON "Lead" FOR EACH ROW WHEN (NEW.id = 'c') EXECUTE FUNCTION refuse();
"""


class TestWhatTheEngineGivesIt:
    def test_a_run_that_is_resumed_does_the_rest(self, site: Site) -> None:
        site.host.add_leads(*"abcd")
        run = site.start(backfill=NAME, limit=1, lanes=2, single_batch=True)
        site.deliver()

        site.runs.resume(run.id)
        site.deliver_all()

        ended = site.read(run.id)
        assert (ended.state, ended.counts) == ("complete", {"read": 4, "updated": 4})
        assert site.verify(run.id).clean

    def test_a_page_that_is_delivered_twice_is_done_once(self, site: Site) -> None:
        site.host.add_leads("a", "b")
        run = site.start(backfill=NAME)
        site.waiting.append(site.waiting[0])

        site.deliver_all()

        assert site.read(run.id).counts == {"read": 2, "updated": 2}

    def test_a_lead_that_the_database_refuses_is_quarantined_and_can_be_tried_again(self, own_site: Site) -> None:
        own_site.host.add_leads(*"abcde")
        own_site.host.connection.execute(REFUSE.encode())

        run = whole_run(own_site)
        own_site.host.do('DROP TRIGGER refuse ON "Lead"')
        (tried,) = own_site.parts.retrier.retry(run.id)

        assert (run.state, run.counts) == ("complete", {"read": 5, "updated": 4, "quarantined": 1})
        assert (tried.item, tried.outcome) == ("c", "went through")
        assert own_site.read(run.id).counts == {"read": 5, "updated": 5, "quarantined": 0}
        assert own_site.verify(run.id).clean


class TestTheVerification:
    def test_names_a_lead_that_lags(self, site: Site) -> None:
        site.host.add_leads("a", "b")
        run = whole_run(site)
        site.host.do("""UPDATE "Lead" SET "lastMessageDirection" = NULL WHERE id = 'b'""")

        found = site.verify(run.id)

        assert (found.missing, found.clean) == (("b",), False)

    def test_counts_apart_what_came_after_the_run_began(self, site: Site) -> None:
        site.host.add_leads("a", "b")
        run = whole_run(site)
        late = run.started_at.replace(tzinfo=None) + timedelta(seconds=1)
        write(site.host, "a", "outbound", 7, createdAt=late)

        found = site.verify(run.id)

        assert (found.missing, found.arrived, found.clean) == ((), 1, True)

    def test_still_names_a_lead_that_lagged_before_and_has_a_later_message_too(self, site: Site) -> None:
        site.host.add_leads("a")
        run = whole_run(site)
        site.host.do("""UPDATE "Lead" SET "lastInboundAt" = NULL""")
        write(site.host, "a", "inbound", 7, createdAt=run.started_at.replace(tzinfo=None) + timedelta(seconds=1))

        assert site.verify(run.id).missing == ("a",)

    @pytest.mark.parametrize(
        ("inbound", "columns"),
        [
            (1, {"lastInboundAt": at(9), "lastMessageAt": at(9), "lastMessageDirection": "inbound"}),
            (0, {"lastInboundAt": at(9)}),
            (0, {"lastMessageDirection": "outbound"}),
        ],
        ids=["newer than its messages", "no message", "no message but a direction"],
    )
    def test_names_a_lead_that_the_run_passed_over_and_that_no_run_sets_back(
        self, site: Site, inbound: int, columns: dict[str, object]
    ) -> None:
        site.host.add_leads("a", inbound=inbound, **columns)

        found = site.verify(whole_run(site).id)

        assert (found.missing, found.left_alone, found.wrong) == (("a",), ("a",), True)
        assert site.verify(whole_run(site).id).left_alone == ("a",)

    def test_what_another_run_mends_is_not_said_to_be_left_alone(self, site: Site) -> None:
        site.host.add_leads("a", "b")
        run = whole_run(site)
        site.host.do("""UPDATE "Lead" SET "lastMessageAt" = NULL""")

        assert site.verify(run.id).left_alone == ()
        assert site.verify(whole_run(site).id).clean

    def test_the_runbook_s_statement_mends_what_a_run_leaves_alone(self, site: Site) -> None:
        site.host.add_leads("a", lastInboundAt=at(9), lastMessageAt=at(9), lastMessageDirection="inbound")
        site.host.add_leads("b", inbound=0, lastOutboundAt=at(9), lastZrgOutboundAt=at(9), lastMessageAt=at(9))
        site.host.add_leads("c", lastOutboundAt=at(9))
        left_alone = ("a", "b")
        run = whole_run(site)
        assert site.verify(run.id).left_alone == ("a", "b", "c")

        site.host.do(runbook_statement().replace(":'ids'", "%s"), "{" + ",".join(left_alone) + "}")

        assert site.verify(run.id).left_alone == ("c",)
        assert rollups(site.host, "a") == (at(1), None, at(1), "inbound")
        assert rollups(site.host, "b") == (None, None, None, None)

    def test_a_damaged_index_hides_no_message_from_whole_tables(self, own_site: Site) -> None:
        own_site.host.add_leads("a", "b")
        with own_site.host.unindexed("Message") as host:
            host.execute(
                """INSERT INTO "Message" (id, "leadId", direction, body, "sentAt", "createdAt")
                VALUES ('late', 'b', 'inbound', 'Hi', %(at)s, %(at)s)""",
                {"at": at(7)},
            )
        run = whole_run(own_site)

        assert own_site.verify(run.id).clean
        assert Verifier(own_site.engine, MessageRollups(), STATEMENT_MS, full=True).verify(run).missing == ("b",)

    def test_whole_tables_tell_what_indexes_tell(self, site: Site) -> None:
        site.host.add_leads("a", "b", "c", "d")
        site.host.add_leads("e", lastInboundAt=at(9))
        run = whole_run(site, lanes=2, limit=1)
        site.host.do("""UPDATE "Lead" SET "lastMessageDirection" = NULL WHERE id = 'b'""")
        write(site.host, "d", "outbound", 7, createdAt=run.started_at.replace(tzinfo=None) + timedelta(seconds=1))

        found = Verifier(site.engine, MessageRollups(), STATEMENT_MS, full=True).verify(run)

        assert found == site.verify(run.id)
        assert (found.missing, found.left_alone, found.arrived) == (("b", "e"), ("e",), 1)

    def test_counts_apart_what_a_webhook_writes_before_its_message(self, site: Site) -> None:
        site.host.add_leads("a")
        run = whole_run(site)
        late = run.started_at.replace(tzinfo=None) + timedelta(seconds=1)
        site.host.do('UPDATE "Lead" SET "lastInboundAt" = %s, "lastMessageAt" = %s', late, late)

        found = site.verify(run.id)

        assert (found.missing, found.arrived) == ((), 1)


class TestOptions:
    @pytest.mark.parametrize("options", [{}, {"client_ids": "a"}, {"client_ids": None, "rescore_all": False}])
    def test_refuses_options_that_are_not_its_own(self, options: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"its options are|client_ids: "):
            check(MessageRollups.options, options)
