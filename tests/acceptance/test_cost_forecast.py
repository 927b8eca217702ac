"""`backfill run --forecast-cost`: the dry run says what scoring its leads here would cost."""

import pytest
from acceptance.commands import assert_refused
from acceptance.host import Host
from harness import Backfill


@pytest.fixture
def command(backfill: Backfill, inhabited: Host) -> Backfill:
    """The command with a key; it reaches no provider."""
    assert inhabited
    return backfill.set(OPENAI_API_KEY="key", OPENAI_BASE_URL="http://127.0.0.1:9/v1")


def test_a_dry_run_forecasts_the_cost_of_scoring_its_leads(command: Backfill) -> None:
    shown = command("run", "--forecast-cost", "openai").stdout
    counted = command.json("run", "--forecast-cost", "openai")

    found = counted["cost_forecast"]
    assert found["leads"] == sum(counted["counts"][name] for name in ("inserted", "requeued", "refreshed"))
    assert 0 < found["low_micros"] < found["cost_micros"] < found["high_micros"]
    assert found["measured_answers"] == 0
    assert "scoring cost" in shown
    assert "assumed: this model hasn't answered yet" in shown
    assert "backfill work --scorer openai --max-spend" in shown


def test_a_scorer_without_a_model_costs_nothing(command: Backfill) -> None:
    assert "the scorer rules costs nothing" in command("run", "--forecast-cost", "rules").stdout


def test_a_forecast_is_part_of_a_dry_run_of_lead_scoring_only(command: Backfill) -> None:
    assert_refused(command("run", "--apply", "--forecast-cost", "openai"))
    assert_refused(command("run", "message-rollups", "--forecast-cost", "openai"))
    assert_refused(command("run", "--forecast-cost", "nobody"))
