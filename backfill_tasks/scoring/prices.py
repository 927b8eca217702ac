"""The price list: what a model's tokens cost."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path

from backfill_tasks import settings
from backfill_tasks.errors import ConfigurationError
from backfill_tasks.escaping import one_line
from backfill_tasks.kinds import quoted
from backfill_tasks.scoring.contract import Usage

SETTING = "BACKFILL_PRICES_FILE"

#: An upper limit that no real price reaches: a typo of a few zeros would make every budget look exhausted.
_HIGHEST_PRICE = 100_000

#: A line for the file, for a message.
_ENTRY = 'models."{model}" = {{ input = 0.05, output = 0.40 }}'


@dataclass(frozen=True)
class Price:
    """A model's price: money per million tokens, which is also micro-units of money per token.

    `batch_discount`: the share of the price that the provider's Batch API saves; 0: it saves nothing.
    """

    input: Decimal
    output: Decimal
    batch_discount: Decimal = Decimal(0)

    def of(self, usage: Usage, *, batch: bool = False) -> int:
        """Return what the tokens cost in micro-units of money, rounded up."""
        whole = self.input * usage.input_tokens + self.output * usage.output_tokens
        asked = whole * (1 - self.batch_discount) if batch else whole
        return int(asked.to_integral_value(ROUND_CEILING))


def cost(model: str | None, usage: Usage, *, batch: bool = False) -> int:
    """Return what a model's tokens cost in micro-units of money, rounded up; no model costs nothing.

    Args:
        model: the name in the price list. Names are compared as they are: a dated name needs an entry of its own.
        usage: the tokens.
        batch: whether they go through the provider's Batch API.

    Raises:
        ConfigurationError: the model has no price, or the price list is invalid.
    """
    if model is None:
        return 0
    path = settings.environment().get(SETTING, "").strip()
    price = load(path).get(model)
    if price is None:
        raise ConfigurationError(
            f"the model {quoted(model)} has no price, so no budget can hold: write its price for a million tokens,"
            f" such as {_ENTRY.format(model=one_line(model, most=100))},"
            f" into {quoted(path) if path else f'a file, and name the file in {SETTING}'}"
        )
    return price.of(usage, batch=batch)


@cache
def load(path: str = "") -> Mapping[str, Price]:
    """Return the prices by model, from a file or, without one, from the list in this package.

    Raises:
        ConfigurationError: the file can't be read, or isn't a price list.
    """
    name = f"{SETTING} {quoted(path)}" if path else "prices.toml"
    try:
        text = (Path(path) if path else _shipped()).read_text(encoding="utf-8")
        found = tomllib.loads(text, parse_float=Decimal)
    except OSError as error:
        raise ConfigurationError(f"{name} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ArithmeticError) as error:
        raise ConfigurationError(f"{name} isn't a price list in TOML: {error}") from None
    models = found.get("models")
    if not isinstance(models, dict) or set(found) != {"models"}:
        raise ConfigurationError(
            f"{name} has no table models, or something beside it: write {_ENTRY.format(model='gpt-5-nano')}"
        )
    return {model: _price(entry, f"{name}: {quoted(model)}") for model, entry in models.items()}


def _shipped() -> Path:
    return Path(str(files("backfill_tasks.scoring").joinpath("prices.toml")))


def _price(entry: object, where: str) -> Price:
    needed, known = {"input", "output"}, {"input", "output", "batch_discount"}
    if not isinstance(entry, dict) or not needed <= set(entry) <= known:
        raise ConfigurationError(f"{where} must have input and output, and may have batch_discount, and no other key")
    return Price(
        input=_number(entry["input"], f"{where}: input", _HIGHEST_PRICE),
        output=_number(entry["output"], f"{where}: output", _HIGHEST_PRICE),
        batch_discount=_number(entry.get("batch_discount", 0), f"{where}: batch_discount", 1),
    )


def _number(value: object, where: str, most: int) -> Decimal:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        number = Decimal(value)
        if number.is_finite() and 0 <= number <= most:
            return number
    raise ConfigurationError(f"{where} must be a number from 0 to {most:,}")
