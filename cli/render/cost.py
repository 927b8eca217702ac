"""The forecast of what scoring will cost."""

from typing import TYPE_CHECKING, Any

from backfill_tasks.cli.render.text import counted
from backfill_tasks.scoring.spend import shown

if TYPE_CHECKING:
    from backfill_tasks.scoring.cost import CostForecast

#: Millionths in a hundredth: a forecast is rounded to hundredths.
_CENT = 10_000


def cost_lines(found: "CostForecast") -> list[str]:
    """Return what scoring will cost, how sure that is, and what it is based on."""
    if found.model is None:
        return [f"  {'scoring cost':<16}{'0.00':>11}   the scorer {found.scorer} costs nothing"]
    if not found.leads:
        return [f"  {'scoring cost':<16}{'0.00':>11}   there is no lead to score"]
    if not found.sample:
        return [f"  {'scoring cost':<16}{'unknown':>11}   none of the leads that were drawn has a conversation"]
    between = f"{_money(found.low)} to {_money(found.high)} in 19 of 20 cases"
    tokens = f"{found.input_tokens:,.0f} tokens in and {found.output_tokens:,.0f} out for a lead"
    sample = f"from {found.sample:,} of {counted(found.leads, 'leads')}, {tokens}"
    lines = [f"  {'scoring cost':<16}{_money(found.cost):>11}   {between}; {found.model}", f"    {sample}"]
    if found.answered:
        answers = "answer of the model has" if found.answered == 1 else f"{found.answered:,} answers of the model have"
        return [*lines, f"    by what the latest {answers} used"]
    a_few = shown(max(_CENT, found.high // 100 // _CENT * _CENT))
    return [
        *lines,
        "    assumed: this model hasn't answered yet. Measure it with a few leads, and repeat:",
        f"      backfill work --scorer {found.scorer} --max-spend {a_few}",
    ]


def cost_as_json(found: "CostForecast") -> dict[str, Any]:
    """Return a forecast as a JSON object. Money is in millionths."""
    return {
        "scorer": found.scorer,
        "model": found.model,
        "leads": found.leads,
        "sample": found.sample,
        "cost_micros": found.cost,
        "low_micros": found.low,
        "high_micros": found.high,
        "input_tokens_per_lead": round(found.input_tokens, 1),
        "output_tokens_per_lead": round(found.output_tokens, 1),
        "measured_answers": found.answered,
    }


def _money(amount: int) -> str:
    """Return an amount rounded to hundredths, or to what is needed to see it."""
    return shown(round(amount / _CENT) * _CENT) if amount >= _CENT else shown(amount)
