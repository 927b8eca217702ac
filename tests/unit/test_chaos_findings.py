"""A campaign names the faults that may have broken a promise, and counts violations by kind of fault."""

import time

from chaos.findings import Findings
from chaos.report import table
from chaos.schedule import BY_NAME

FROZEN, KILLED, CUT = (BY_NAME[name] for name in ("redis: frozen", "worker: killed", "postgres: connections cut"))


def test_a_violation_names_every_fault_that_was_at_work_since_it_began() -> None:
    findings = Findings(1)
    findings.begins(CUT)
    findings.ends(CUT)
    since = time.monotonic()
    findings.begins(FROZEN)
    findings.begins(KILLED)
    findings.ends(FROZEN)

    findings.violation("silence", "lane 1", since=since)

    assert findings.violations[0].kinds == (FROZEN.name, KILLED.name)


def test_a_violation_after_all_faults_names_the_one_that_ended_last() -> None:
    findings = Findings(1)
    findings.begins(FROZEN)
    findings.begins(KILLED)
    findings.ends(KILLED)
    findings.ends(FROZEN)

    findings.violation("no recovery", "lane 1")

    assert findings.last_ended() == FROZEN.name
    assert findings.violations[0].kinds == (FROZEN.name,)


def test_the_same_violation_counts_once() -> None:
    findings = Findings(1)

    for _ in range(2):
        findings.violation("silence", "lane 1")

    assert len(findings.violations) == 1


def test_the_table_has_a_column_for_silences_ended_programs_and_all_else() -> None:
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
