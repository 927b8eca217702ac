"""The price list: exact sums in micro-units of money, and refusals that say how to price a model."""

from fractions import Fraction
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfill_tasks.errors import ConfigurationError
from backfill_tasks.scoring import prices
from backfill_tasks.scoring.contract import Usage

TOKENS = st.integers(0, 10**12)


def listed(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_million_tokens_cost_the_listed_price() -> None:
    million = Usage(1_000_000, 1_000_000)

    assert prices.cost("gpt-5-nano", million) == 450_000
    assert prices.cost("gpt-5-nano", million, batch=True) == 225_000


def test_no_model_costs_nothing() -> None:
    assert prices.cost(None, Usage(10**9, 10**9)) == 0


@given(TOKENS, TOKENS, st.booleans())
def test_a_cost_is_the_exact_sum_rounded_up(given_in: int, given_out: int, batch: bool) -> None:  # noqa: FBT001
    exact = (Fraction("0.05") * given_in + Fraction("0.40") * given_out) * (Fraction(1, 2) if batch else 1)

    assert prices.cost("gpt-5-nano", Usage(given_in, given_out), batch=batch) == ceil(exact)


def test_a_model_without_a_price_is_refused_with_the_line_to_write() -> None:
    with pytest.raises(ConfigurationError) as refused:
        prices.cost("gpt-9", Usage(1, 1))

    assert str(refused.value) == (
        "the model 'gpt-9' has no price, so no budget can hold: write its price for a million tokens, such as"
        ' models."gpt-9" = { input = 0.05, output = 0.40 }, into a file, and name the file in BACKFILL_PRICES_FILE'
    )


def test_a_file_replaces_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = listed(tmp_path / "prices.toml", 'models."gpt-9" = { input = 1, output = 2.5 }')
    monkeypatch.setenv("BACKFILL_PRICES_FILE", path)

    assert prices.cost("gpt-9", Usage(3, 1)) == 6
    assert prices.cost("gpt-9", Usage(4, 2), batch=True) == 9
    with pytest.raises(ConfigurationError, match="'gpt-5-nano' has no price"):
        prices.cost("gpt-5-nano", Usage(1, 1))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("models = 3", "has no table models"),
        ('currency = "USD"\n[models]', "or something beside it"),
        ("[models.x]\ninput = 1", "must have input and output"),
        ("[models.x]\ninput = 1\noutput = 1\nbatch = 1", "no other key"),
        ("[models.x]\ninput = -1\noutput = 1", "input must be a number from 0 to 100,000"),
        ("[models.x]\ninput = 1\noutput = nan", "output must be a number"),
        ("[models.x]\ninput = 1\noutput = inf", "output must be a number"),
        ("[models.x]\ninput = true\noutput = 1", "input must be a number"),
        ('[models.x]\ninput = "1"\noutput = 1', "input must be a number"),
        ("[models.x]\ninput = 1\noutput = 1\nbatch_discount = 1.5", "batch_discount must be a number from 0 to 1"),
        ("models.x = {", "isn't a price list in TOML"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        prices.load(listed(tmp_path / "prices.toml", text))


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^BACKFILL_PRICES_FILE .* can't be read: No such file"):
        prices.load(str(tmp_path / "none.toml"))
