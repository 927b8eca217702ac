"""The files deployed alongside the tool: alert rules, a dashboard, and their expressions."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy/prometheus/backfill.rules.yml"
RULES_TEST = ROOT / "deploy/prometheus/rules_test.yml"
DASHBOARD = ROOT / "deploy/grafana/backfill.json"


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return content


def expressions(node: Any) -> Iterator[str]:
    """Yield every PromQL expression of a dashboard."""
    if isinstance(node, dict):
        yield from (value for name, value in node.items() if name == "expr")
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from expressions(each)


def readable(expression: str) -> str:
    """Return an expression in the form in which Grafana sends it with all runs selected."""
    return expression.replace("$__rate_interval", "1m").replace("$run", ".*")
