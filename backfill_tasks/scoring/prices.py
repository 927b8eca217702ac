"""What a request costs, by the price list."""

import tomllib
from functools import cache
from importlib.resources import files

from backfill_tasks.errors import ConfigurationError
from backfill_tasks.scoring.contract import Usage

#: Tokens for which a price is given.
_TOKENS = 1_000_000


def cost(model: str | None, usage: Usage, *, batch: bool = False) -> int:
    """Return the cost in millionths, rounded up. None costs nothing; `batch`: at the price of the Batch API.

    Raises:
        ConfigurationError: the model has no price.
    """
    if model is None:
        return 0
    price = _prices().get(model)
    if price is None:
        raise ConfigurationError(f"the model {model} has no price: scoring with it is refused until it has one")
    kind = "batch_" if batch else ""
    micros = usage.input_tokens * price[f"{kind}input"] + usage.output_tokens * price[f"{kind}output"]
    return -(-micros // _TOKENS)


@cache
def _prices() -> dict[str, dict[str, int]]:
    """Return the prices per million tokens, in millionths."""
    text = files("backfill_tasks.scoring").joinpath("prices.toml").read_text(encoding="utf-8")
    models: dict[str, dict[str, int]] = tomllib.loads(text)
    return models
