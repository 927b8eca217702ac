"""Plays one schedule against a fleet of its own, and judges the result."""

import json
import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from chaos.faults import play
from chaos.faults.processes import GRACE_SECONDS
from chaos.findings import RECOVERY_SECONDS, Findings
from chaos.fleet import Answer, CampaignError, Fleet, fleet
from chaos.guard import REMOVE, guarded
from chaos.host import host_at_work
from chaos.schedule import Act, Fault, Schedule
from chaos.watcher import Watcher

#: Leads per fault: enough that the run outlasts all faults.
LEADS_PER_FAULT = 1_200

#: If no lane moves for this many seconds, the fleet hasn't recovered; if a lane does no page, the run won't end.
GIVE_UP_SECONDS = 240.0
_TICK = 0.1

Say = Callable[[str], None]


def play_schedule(schedule: Schedule, say: Say, *, logs: Path | None = None) -> Findings:
    """Play a schedule and return its findings. The programs' logs are kept in the folder `logs`, if given."""
    findings = Findings(schedule.seed)
    began = time.monotonic()
    with ExitStack() as stack:
        if logs is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backfill-chaos-")))
            stack.enter_context(guarded(REMOVE, directory))
        else:
            directory = logs / f"seed-{schedule.seed}"
            directory.mkdir(parents=True)
        directory.chmod(0o755)
        made = stack.enter_context(fleet(directory, leads=LEADS_PER_FAULT * max(len(schedule.faults), 3)))
        run = made.begin()
        with Watcher(made, run, findings).watching() as watcher:
            _Play(made, run, watcher, findings, say).perform(schedule)
        _judge(made, run, findings)
    findings.seconds = time.monotonic() - began
    return findings


class _Play:
    """Plays the faults in order, alongside the operator and the host."""

    def __init__(self, made: Fleet, run: str, watcher: Watcher, findings: Findings, say: Say) -> None:
        self._fleet = made
        self._run = run
        self._watcher = watcher
        self._findings = findings
        self._say = say
        #: When the last disturbance ended: a fault, or the operator's pause.
        self._calm_since = time.monotonic()
        self._disturbances = 0
        self._lock = threading.Lock()

    def perform(self, schedule: Schedule) -> None:
        """Play the whole schedule and follow the run to its end."""
        over = threading.Event()
        operator = threading.Thread(target=self._operate, args=(schedule.acts, over), name="operator")
        with host_at_work(self._fleet.host_url, schedule.seed):
            operator.start()
            try:
                self._play_faults(schedule.faults)
            finally:
                over.set()
                operator.join()
            self._finish()

    # ---- faults

    def _play_faults(self, faults: tuple[Fault, ...]) -> None:
        before: _Playing | None = None
        for fault in faults:
            if before is not None:
                self._wait_for_the_turn(fault, before)
            if self._watcher.state in {"complete", "failed", "cancelled"}:
                self._findings.skipped += [each.kind.name for each in faults[fault.number - 1 :]]
                self._say(f"  the run is {self._watcher.state}: skipping the faults from {fault.number} on")
                break
            current = _Playing(self, fault)
            current.start()
            if before is not None and fault.anchor == "start":
                before.join()
            before = current
        if before is not None:
            before.join()

    def _wait_for_the_turn(self, fault: Fault, before: "_Playing") -> None:
        if fault.anchor == "start":
            before.begun.wait()
        else:
            before.join()
        if fault.anchor == "recovery":
            self._await_recovery()
        time.sleep(fault.gap)

    def _await_recovery(self) -> float | None:
        """Wait until every lane has moved since the last disturbance, and record how long that took."""
        while True:
            with self._lock:
                calm, disturbances = self._calm_since, self._disturbances
            now = time.monotonic()
            if self._watcher.state in {"complete", "failed", "cancelled"}:
                return None
            if not disturbances and self._watcher.state == "running" and self._watcher.moved_since(calm):
                seconds = now - calm
                break
            if not disturbances and now - calm > GIVE_UP_SECONDS:
                self._findings.violation(
                    "no recovery",
                    f"lanes {self._watcher.stuck_since(calm)} have not moved for {GIVE_UP_SECONDS:.0f} s",
                    since=calm,
                )
                return None
            time.sleep(_TICK)
        kind = self._findings.last_ended()
        self._findings.recovery(kind, seconds)
        if seconds > RECOVERY_SECONDS:
            self._findings.violation("slow recovery", f"{seconds:.0f} s after {kind}")
        return seconds

    @contextmanager
    def disturbance(self) -> Iterator[None]:
        """Mark the block as a disturbance: recovery is measured from its end."""
        with self._lock:
            self._disturbances += 1
        try:
            yield
        finally:
            with self._lock:
                self._disturbances -= 1
                self._calm_since = time.monotonic()

    def inject(self, fault: Fault, begun: threading.Event) -> None:
        """Play one fault to its end."""
        with ExitStack() as stack:
            stack.enter_context(self.disturbance())
            self._findings.begins(fault.kind)
            stack.callback(self._findings.ends, fault.kind)
            if fault.kind.blinds:
                stack.enter_context(self._watcher.blinded())
            length = f"{fault.seconds:.1f} s" if fault.seconds else "at once"
            self._say(f"  {fault.number:>3}  {fault.kind.name}, {length} ({fault.anchor} + {fault.gap:.1f} s)")
            with play(self._fleet, fault):
                begun.set()
                time.sleep(fault.seconds)

    # ---- the operator

    def _operate(self, acts: tuple[Act, ...], over: threading.Event) -> None:
        began = time.monotonic()
        for act in acts:
            if over.wait(max(0.0, began + act.at - time.monotonic())):
                return
            if act.command == "pause":
                with self.disturbance():
                    if self._type("pause", self._run):
                        time.sleep(act.seconds)
                    # The pause may have taken effect even if its answer was lost.
                    self._insist("resume", self._run)
            else:
                self._type("tune", self._run, f"--limit={act.limit}", f"--page-delay-ms={act.page_delay_ms}")

    def _insist(self, *arguments: str) -> None:
        """Repeat a command until it works, or until the run is no longer paused."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while not self._type(*arguments):
            time.sleep(1)
            if self._watcher.state != "paused":
                return
            if time.monotonic() > deadline:
                self._findings.violation("command", f"`backfill {arguments[0]}` never worked")
                return

    def _type(self, *arguments: str) -> bool:
        answer = self._fleet.command(*arguments)
        if "Traceback" in answer.errors:
            self._findings.violation(
                "traceback", f"`backfill {arguments[0]}`: {answer.errors.strip().splitlines()[-1]}"
            )
        if answer.status is None:
            self._findings.violation("command", f"`backfill {arguments[0]}` hung")
        elif answer.status != 0:
            said = (answer.errors.strip().splitlines() or ["nothing"])[-1]
            self._say(f"       `backfill {arguments[0]}` exited with {answer.status}: {said}")
        return answer.status == 0

    # ---- the end

    def _finish(self) -> None:
        """Wait for the recovery from the last fault, then let the operator speed the run up.

        Larger pages without a delay don't revive a stalled lane: a lane that stalls now is a violation.
        """
        recovered = self._await_recovery()
        if recovered is not None:
            self._say(f"       every lane moved again after {recovered:.1f} s")
        self._insist_on_speed()
        calm = time.monotonic()
        while self._watcher.state not in {"complete", "failed", "cancelled"}:
            stuck = self._watcher.stuck_since(time.monotonic() - RECOVERY_SECONDS)
            if stuck and time.monotonic() - calm > RECOVERY_SECONDS:
                self._findings.violation("stalled without a fault", f"lanes {stuck} for {RECOVERY_SECONDS:.0f} s")
            if self._watcher.stuck_since(time.monotonic() - GIVE_UP_SECONDS):
                return
            time.sleep(_TICK)

    def _insist_on_speed(self) -> None:
        for _ in range(5):
            if self._type("tune", self._run, "--limit=200", "--page-delay-ms=0"):
                return
            time.sleep(1)


class _Playing(threading.Thread):
    """A fault in progress. `join` raises what went wrong in the campaign itself."""

    def __init__(self, conductor: _Play, fault: Fault) -> None:
        super().__init__(name=fault.kind.name)
        self.fault = fault
        self.begun = threading.Event()
        self._conductor = conductor
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._conductor.inject(self.fault, self.begun)
        except Exception as error:  # noqa: BLE001 (it is raised where the thread is joined)
            self._error = error
        finally:
            self.begun.set()

    def join(self, timeout: float | None = None) -> None:
        super().join(timeout)
        if self._error is not None:
            raise CampaignError(f"the fault {self.fault.kind.name!r} could not be played: {self._error}") from None


def _judge(made: Fleet, run: str, findings: Findings) -> None:
    """Run the oracle and the product's own verification. Any fault may have caused what they find."""
    whole_schedule = -math.inf
    oracle = Path(__file__).with_name("oracle.sql").read_bytes()
    with psycopg.connect(made.host_url, autocommit=True) as connection:
        for rule, detail in connection.execute(oracle).fetchall():
            findings.violation(rule, detail or "", since=whole_schedule)
        lost = {lead for (lead,) in connection.execute("SELECT lead FROM audit.lost").fetchall()}
    for name in made.overran:
        findings.violation("stop", f"{name} did not end within {GRACE_SECONDS:.0f} s of SIGTERM", since=whole_schedule)
    for complaint in complaints(made.command("verify", run, "--json"), lost):
        findings.violation("verify", complaint, since=whole_schedule)


def complaints(verified: Answer, lost: set[str]) -> list[str]:
    """Return what `backfill verify` found wrong, except missing leads whose job the host has deleted."""
    try:
        found = json.loads(verified.output)
    except ValueError:
        return [f"exit {verified.status}: {verified.errors}"]
    wrong = [f"lead {lead} has no result" for lead in found["missing"] if lead not in lost]
    wrong += found["contradictions"]
    if found["quarantined"] or any(found["unresolved"].values()):
        wrong.append(f"{found['quarantined']} in quarantine, unresolved: {found['unresolved']}")
    if not found["clean"] and not wrong and not found["missing"]:
        wrong.append(f"exit {verified.status}, although nothing is wrong: {verified.output}")
    return wrong
