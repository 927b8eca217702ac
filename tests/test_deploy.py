"""The files deployed alongside the tool: valid alert rules and a dashboard, based on existing metrics."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from deployed import DASHBOARD, ROOT, RULES, RULES_TEST, dashboard, expressions, readable

from backfill_tasks.monitoring.exposition import MEANINGS

REFERENCE = ROOT / "docs/reference/metrics.md"

_METRIC = re.compile(r"\bbackfill_\w+")
_OF_HISTOGRAMS = re.compile(r"_(bucket|count|sum)$")


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' program for checking rules."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("there is no promtool (Debian: apt install prometheus)")
    return found


def metrics_in(text: str) -> set[str]:
    """Return the names of the metrics in a text."""
    return {name if name in MEANINGS else _OF_HISTOGRAMS.sub("", name) for name in _METRIC.findall(text)}


def test_promtool_accepts_the_rules(promtool: str) -> None:
    done = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alert_rule_tests_pass(promtool: str) -> None:
    done = subprocess.run([promtool, "test", "rules", RULES_TEST], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_parses_every_dashboard_expression(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": readable(each)} for number, each in enumerate(expressions(dashboard()))
    ]
    file = tmp_path / "panels.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")

    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, check=False)

    assert len(rules) > 20
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_firing_and_a_silent_test() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8")))
    tested = re.findall(r"alertname: (\w+),? *\n? *exp_alerts: *(\[\])?", RULES_TEST.read_text(encoding="utf-8"))

    assert {name for name, none in tested if none} == alerts
    assert {name for name, none in tested if not none} == alerts


def test_alerts_and_dashboard_use_existing_metrics() -> None:
    named = metrics_in(" ".join(expressions(dashboard())))
    alerted = metrics_in("".join(re.findall(r"expr: ([^#]*?)\n *(?:for|labels):", RULES.read_text(encoding="utf-8"))))

    assert named | alerted <= MEANINGS.keys()
    assert "backfill_lane_stalled_seconds" in alerted
    assert "backfill_page_duration_seconds" in named


def test_the_dashboard_shows_every_metric() -> None:
    assert metrics_in(DASHBOARD.read_text(encoding="utf-8")) >= MEANINGS.keys()


def test_dashboard_panels_have_unique_ids_and_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    cells = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_the_reference_lists_every_metric_once() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(listed) == sorted(MEANINGS)
