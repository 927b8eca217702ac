"""The exporter as a process, and its scrapes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from subprocess import Popen

from harness import PATIENCE, Backfill, fetch, wait_for
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Scrape:
    """One answer of the exporter."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]
    types: dict[str, str]

    def __call__(self, name: str, **labels: str) -> float | None:
        """Return the sum of the samples with these labels; None if there is none."""
        found = [value for (each, its), value in self.samples.items() if each == name and labels.items() <= set(its)]
        return sum(found) if found else None


@dataclass(frozen=True)
class Exporter:
    process: Popen[str]
    url: str

    @classmethod
    def start(cls, backfill: Backfill, *options: str) -> "Exporter":
        process = backfill.popen("metrics", "--port=0", *options)
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"Metrics at (http://\S+/metrics)\n", line)
        assert found, line
        return cls(process, found[1])

    def get(self, *, authorization: str = "", path: str = "/metrics") -> tuple[int, str]:
        return fetch(self.url.removesuffix("/metrics") + path, authorization=authorization)

    def scrape(self) -> Scrape:
        status, text = self.get()
        assert status == 200
        found = list(text_string_to_metric_families(text))
        samples = {
            (each.name, frozenset(each.labels.items())): each.value for family in found for each in family.samples
        }
        types = dict(re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE))
        return Scrape(samples, types)

    def wait_for_sample(self, name: str, value: float, **labels: str) -> Scrape:
        """Scrape until a metric has this value."""
        scrapes: list[Scrape] = []

        def has_come() -> bool:
            scrapes.append(self.scrape())
            return scrapes[-1](name, **labels) == value

        wait_for(has_come, what=f"{name} to be {value}")
        return scrapes[-1]

    def wait_for(self, name: str, **labels: str) -> float:
        """Scrape until a metric has a sample with these labels, and return its value."""
        values: list[float | None] = []

        def has_come() -> bool:
            values.append(self.scrape()(name, **labels))
            return values[-1] is not None

        wait_for(has_come, what=f"{name} {labels}")
        return values[-1] or 0.0

    def stop(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode


Export = Callable[..., Exporter]
