"""A fault campaign attributes violations to faults, and counts them by kind of fault."""

import time

from chaos.findings import Findings
from chaos.report import table
from chaos.schedule import BY_NAME

FROZEN, KILLED, CUT = (BY_NAME[name] for name in ("redis: frozen", "worker: killed", "postgres: connections cut"))


def test_violation_names_every_fault_active_since_it_began() -> None:
    findings = Findings(1)
    findings.begins(CUT)
    findings.ends(CUT)
    since = time.monotonic()
    findings.begins(FROZEN)
    findings.begins(KILLED)
    findings.ends(FROZEN)

    findings.violation("silence", "lane 1", since=since)

    assert findings.violations[0].kinds == (FROZEN.name, KILLED.name)


def test_violation_after_all_faults_names_the_last_one_to_end() -> None:
    findings = Findings(1)
    findings.begins(FROZEN)
    findings.begins(KILLED)
    findings.ends(KILLED)
    findings.ends(FROZEN)

    findings.violation("no recovery", "lane 1")

    assert findings.last_ended() == FROZEN.name
    assert findings.violations[0].kinds == (FROZEN.name,)


def test_repeated_violation_counts_once() -> None:
    findings = Findings(1)

    for _ in range(2):
        findings.violation("silence", "lane 1")

    assert len(findings.violations) == 1


def test_table_separates_silences_ended_processes_and_other_violations() -> None:
    findings = Findings(1)
    findings.begins(KILLED)
    for rule in ("silence", "process ended by itself", "skipped", "enqueued twice"):
        findings.violation(rule, "")
    findings.ends(KILLED)
    findings.recovery(KILLED.name, 2.0)
    findings.recovery(KILLED.name, 4.0)

    assert [line.split() for line in table([findings])[2:]] == [
        ["worker:", "killed", "1", "2.0", "4.0", "4.0", "1", "1", "2"]
    ]
    assert max(map(len, table([findings]))) <= 80
