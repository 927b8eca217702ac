"""`backfill run message-rollups`: another backfill with the same command, workers and ledger."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from acceptance.commands import Follow, assert_refused, backfill_against
from acceptance.host import Host
from harness import Backfill, Worker

from sandbox.servers import Redis

NAME = "message-rollups"

#: One lead in two has no roll-ups; of the others, one in three has old ones.
DAMAGE = """
UPDATE "Lead"
SET "lastInboundAt" = NULL, "lastOutboundAt" = NULL, "lastMessageAt" = NULL, "lastMessageDirection" = NULL
WHERE hashtext(id) % 2 = 0;
UPDATE "Lead"
SET
  "lastInboundAt" = "lastInboundAt" - interval '1 day',
  "lastMessageAt" = "lastMessageAt" - interval '1 day'
WHERE hashtext(id) % 3 = 0;
"""

#: Leads whose roll-ups are older than their messages.
LAGGING = """
SELECT lead.id FROM "Lead" AS lead
JOIN (
  SELECT
    "leadId" AS id,
    max("sentAt") FILTER (WHERE direction = 'inbound') AS inbound,
    max("sentAt") FILTER (WHERE direction = 'outbound') AS outbound,
    max("sentAt") AS newest
  FROM "Message" GROUP BY 1
) AS message USING (id)
WHERE lead."lastInboundAt" IS DISTINCT FROM inbound
   OR lead."lastOutboundAt" IS DISTINCT FROM outbound
   OR lead."lastMessageAt" IS DISTINCT FROM newest
   OR lead."lastMessageDirection" IS NULL
ORDER BY id
"""

WEBHOOK = """
WITH written AS (
  INSERT INTO "Message" (id, "leadId", direction, body, "sentAt", "createdAt")
  VALUES (%(id)s, %(lead)s, 'inbound', 'Hello again', now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC')
  RETURNING "sentAt", "leadId"
)
UPDATE "Lead" AS lead
SET "lastInboundAt" = "sentAt", "lastMessageAt" = "sentAt", "lastMessageDirection" = 'inbound'
FROM written WHERE lead.id = written."leadId"
RETURNING lead.id, "sentAt"
"""


@pytest.fixture
def damaged(inhabited: Host) -> Host:
    """The host, with roll-ups that lag behind the messages."""
    inhabited.execute(DAMAGE)
    return inhabited


def lagging(host: Host) -> list[str]:
    return host.column(LAGGING)


def test_a_dry_run_counts_what_the_run_then_does(backfill: Backfill, worker: Worker, damaged: Host) -> None:
    before = damaged.contents()
    counted = backfill.json("run", NAME)
    after = damaged.contents()

    done = backfill.json("run", NAME, "--apply")

    owed = counted["counts"]["updated"]
    assert after == before
    assert owed > 500
    assert done["counts"] == {"read": owed, "updated": owed, "quarantined": 0}
    assert (done["state"], done["jobs"]) == ("complete", 0)


def test_it_brings_every_lead_up_to_its_messages_and_changes_nothing_else(
    backfill: Backfill, worker: Worker, damaged: Host
) -> None:
    backfill.json("run", NAME, "--apply", "--limit", "100", "--lanes", "3")

    assert damaged.changed() == set()


def test_the_verification_names_what_lags_and_the_command_that_mends_it(
    backfill: Backfill, worker: Worker, damaged: Host
) -> None:
    backfill("run", NAME, "--apply")
    damaged.execute(DAMAGE)

    done = backfill("verify")

    assert done.returncode == 1
    assert f"Next: backfill run {NAME} --apply" in done.stdout


def test_a_run_is_paused_and_goes_on(backfill: Backfill, worker: Worker, damaged: Host) -> None:
    run = backfill.json("run", NAME, "--apply", "--detach", "--limit", "20", "--page-delay-ms", "1000")["run_id"]
    damaged.wait_for_pages(2)
    backfill("pause", run)
    paused = backfill.json("status", run)

    backfill("tune", run, "--page-delay-ms", "0", "--limit", "500")
    backfill("resume", run)
    done = backfill.json("watch", run)

    assert (paused["state"], done["state"]) == ("paused", "complete")
    assert paused["counts"]["read"] < done["counts"]["read"]
    assert lagging(damaged) == []


@pytest.fixture
def other_broker(tmp_path: Path) -> Iterator[Redis]:
    """A Redis whose only worker is the test's."""
    (tmp_path / "redis").mkdir()
    with Redis(tmp_path / "redis") as started:
        yield started


@pytest.mark.long
def test_a_worker_that_is_killed_costs_nothing(damaged: Host, other_broker: Redis, tmp_path: Path) -> None:
    (tmp_path / "command").mkdir()
    backfill = backfill_against(tmp_path / "command", damaged.url, other_broker.url)
    owed = backfill.json("run", NAME)["counts"]["read"]
    first = Worker.start(backfill)
    backfill.json("run", NAME, "--apply", "--detach", "--limit", "20", "--page-delay-ms", "50")
    damaged.wait_for_pages(3)
    first.kill()

    second = Worker.start(backfill)
    done = backfill.json("run", NAME, "--resume")
    second.stop()

    assert (done["state"], done["counts"]["updated"]) == ("complete", owed)
    assert lagging(damaged) == []


def test_a_quarantined_lead_is_tried_again(backfill: Backfill, worker: Worker, damaged: Host) -> None:
    damaged.refuse_rollups_of(lagging(damaged)[7])
    run = backfill.json("run", NAME, "--apply", status=3)["run_id"]
    damaged.execute("DROP SCHEMA fault CASCADE")

    done = backfill("retry", run)

    assert done.returncode == 0
    assert lagging(damaged) == []


def test_what_webhooks_write_while_it_works_is_never_overwritten(
    backfill: Backfill, worker: Worker, damaged: Host, follow: Follow
) -> None:
    leads = damaged.column('SELECT id FROM "Lead" ORDER BY id')
    process = follow(backfill, "run", NAME, "--apply", "--limit", "25", "--page-delay-ms", "10")
    damaged.wait_for_pages(1)
    written = {}
    with psycopg.connect(damaged.url, autocommit=True) as webhook:
        for number in count():
            if process.poll() is not None:
                break
            values = {"id": f"webhook-{number}", "lead": leads[number * 97 % len(leads)]}
            lead, at = webhook.execute(WEBHOOK.encode(), values).fetchall()[0]
            written[lead] = at

    found = {row["id"]: row["at"] for row in damaged.rows('SELECT id, "lastInboundAt" AS at FROM "Lead"')}
    assert process.returncode == 0
    assert len(written) > 20
    assert {lead: found[lead] for lead in written} == written
    assert lagging(damaged) == []
    assert backfill("verify").returncode == 0


@pytest.mark.parametrize(
    "option",
    [
        ("--rescore-all",),
        ("--delay-ms", "0"),
        ("--jobs-per-minute", "5"),
        ("--max-pending", "5"),
        ("--max-jobs", "5"),
        ("--max-live-wait", "5"),
        ("--cost-per-job", "1"),
    ],
    ids=lambda option: option[0],
)
def test_an_option_that_is_lead_scoring_s_own_is_refused(alone: Backfill, option: tuple[str, ...]) -> None:
    done = alone("run", NAME, *option)

    assert_refused(done)
    assert f"{NAME} " in done.stderr
    assert option[0] in done.stderr


def test_a_bound_on_jobs_can_t_be_tuned(alone: Backfill, damaged: Host) -> None:
    run = alone.json("run", NAME, "--apply", "--detach")["run_id"]

    done = alone("tune", run, "--max-pending", "5")

    assert_refused(done)
    assert f"{NAME} enqueues no jobs, so --max-pending has no effect" in done.stderr


def test_the_settings_bounds_on_jobs_do_not_hold_it_back(backfill: Backfill, worker: Worker, damaged: Host) -> None:
    bounded = backfill.set(
        BACKFILL_JOBS_PER_MINUTE="1",
        BACKFILL_MAX_PENDING="1",
        BACKFILL_MAX_LIVE_WAIT="1",
        BACKFILL_TARGET_PAGE_MS="200",
    )

    done = bounded.json("run", NAME, "--apply")

    assert done["state"] == "complete"
    assert (done["parameters"]["max_pending"], done["parameters"]["max_live_wait"]) == (None, 0)
    assert done["parameters"]["target_page_ms"] == 200


def test_a_name_that_no_backfill_has_is_refused_with_those_that_there_are(alone: Backfill) -> None:
    done = alone("run", "message-rollup")

    assert_refused(done)
    assert "'lead-scoring', 'message-rollups'" in done.stderr


@pytest.mark.usefixtures("damaged")
class TestBesideLeadScoring:
    @pytest.fixture
    def runs(self, alone: Backfill) -> dict[str, str]:
        """An unfinished run of each backfill; that of message roll-ups is the older one."""
        return {
            name: alone.json("run", name, "--apply", "--detach", "--limit", "50")["run_id"]
            for name in (NAME, "lead-scoring")
        }

    def test_resume_takes_the_newest_of_any(self, alone: Backfill, runs: dict[str, str]) -> None:
        assert alone.json("run", "--resume", "--detach")["run_id"] == runs["lead-scoring"]

    def test_resume_with_a_name_takes_the_newest_of_that_name(self, alone: Backfill, runs: dict[str, str]) -> None:
        assert alone.json("run", NAME, "--resume", "--detach")["run_id"] == runs[NAME]

    @pytest.mark.parametrize("option", ["--rescore-all", "--max-pending=5"])
    def test_resume_refuses_an_option_that_the_run_s_backfill_does_not_have(
        self, alone: Backfill, runs: dict[str, str], option: str
    ) -> None:
        alone("cancel", runs["lead-scoring"])

        done = alone("run", "--resume", option)

        assert_refused(done)
        name = option.partition("=")[0]
        assert f"run {runs[NAME]} belongs to {NAME}, which has no {name}: remove it" in done.stderr

    def test_resume_says_that_there_is_none_of_that_name(self, alone: Backfill, runs: dict[str, str]) -> None:
        alone("cancel", runs[NAME])

        done = alone("run", NAME, "--resume")

        assert_refused(done)
        assert f"there is no unfinished run of {NAME} to resume" in done.stderr

    def test_runs_says_which_is_which(self, alone: Backfill, runs: dict[str, str]) -> None:
        lines = alone("runs").stdout.splitlines()

        named = [(words[0], words[-1]) for words in map(str.split, lines[1:])]
        assert named == [(runs["lead-scoring"], "lead-scoring"), (runs[NAME], NAME)]

    def test_a_checkpoint_of_the_other_is_refused_by_name(self, alone: Backfill) -> None:
        alone("run", "--apply", "--detach", "--state-file", "checkpoint.json")

        done = alone("run", NAME, "--resume", "--state-file", "checkpoint.json")

        assert_refused(done)
        assert f"belongs to lead-scoring, not to {NAME}" in done.stderr

    def test_the_old_script_s_checkpoint_is_lead_scoring_s(self, alone: Backfill) -> None:
        old = {"version": 1, "cursor": None, "runAtIndex": 0}
        (alone.directory / "old.json").write_text(json.dumps(old))

        done = alone("run", NAME, "--apply", "--resume", "--state-file", "old.json")

        assert_refused(done)
        assert f"belongs to lead-scoring, not to {NAME}" in done.stderr
