"""A real Prometheus that scrapes the exporter and evaluates the alerts."""

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployed import RULES
from harness import end, wait_for


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus with the deployed alerts that scrapes its target every second."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @classmethod
    def start(cls, program: str, directory: Path, target: str) -> "Prometheus":
        """Start it on the loopback interface, and wait until it answers.

        Args:
            program: its path.
            directory: the folder of its data.
            target: the exporter's host and port.
        """
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "backfill", "static_configs": [{"targets": [target]}]}],
        }
        file, log = directory / "prometheus.yml", directory / "prometheus.log"
        file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        options = [f"--config.file={file}", f"--storage.tsdb.path={directory / 'prometheus'}"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [program, *options, "--web.listen-address=127.0.0.1:0"], stdout=output, stderr=output
            )
        started = cls(process, log)
        wait_for(started._is_ready, what=f"Prometheus to be ready: {log}")
        return started

    def ask(self, path: str, **parameters: str) -> Any:
        """Return its API's answer for a path below /api/v1/; fail with its message if it refuses."""
        url = f"http://127.0.0.1:{self._port()}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise AssertionError(f"{parameters}: {refusal.read().decode()}") from None

    def result(self, expression: str) -> list[dict[str, Any]]:
        """Return an expression's current result."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def names(self) -> set[str]:
        """Return the names of all scraped and recorded metrics, with or without samples just now."""
        return {*self.ask("label/__name__/values"), *self.ask("metadata")}

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts, with their expressions and whether they could be evaluated."""
        found: list[dict[str, Any]] = [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]
        return found

    def stop(self) -> None:
        """Stop it."""
        end(self.process)

    def _is_ready(self) -> bool:
        said = self.log.read_text(encoding="utf-8")
        assert self.process.poll() is None, f"Prometheus ended: {said}"
        return "Server is ready to receive web requests" in said

    def _port(self) -> int:
        found = re.search(r'"Listening on" address=127\.0\.0\.1:(\d+)', self.log.read_text(encoding="utf-8"))
        assert found, "Prometheus does not say where it listens"
        return int(found[1])
