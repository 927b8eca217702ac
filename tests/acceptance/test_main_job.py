"""The whole job as an operator does it: dry run, run, verification."""

from harness import Backfill, Worker

from sandbox.host.sample import Sample

CLASSES = ("inserted", "requeued", "refreshed", "in_flight", "disqualified")


def test_a_dry_run_counts_every_lead(backfill: Backfill, sample: Sample) -> None:
    counted = backfill.json("run")["counts"]

    assert counted["read"] == sample.eligible
    assert {name: counted[name] for name in CLASSES} == {name: getattr(sample, name) for name in CLASSES}
    assert (counted["already_scored"], counted["no_inbound"]) == (sample.scored, sample.no_inbound)


def test_a_wet_run_matches_the_dry_runs_counts(backfill: Backfill, worker: Worker) -> None:
    counted = backfill.json("run", "--limit", "100")

    done = backfill.json("run", "--limit", "100", "--apply")

    assert done["state"] == "complete"
    assert done["pages"] == counted["pages"]
    assert {name: done["counts"][name] for name in CLASSES} == {name: counted["counts"][name] for name in CLASSES}


def test_a_complete_run_verifies_clean(backfill: Backfill, worker: Worker) -> None:
    run = backfill.json("run", "--apply")

    verified = backfill.json("verify", run["run_id"])

    assert verified["clean"]
    assert verified["missing"] == []
