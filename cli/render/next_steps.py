"""The commands that an operator may type next."""

from shlex import quote

from backfill_tasks.cli.render.text import WIDTH
from backfill_tasks.engine.model import Run
from backfill_tasks.escaping import one_line
from backfill_tasks.registry import DEFAULT


def next_steps(run: Run, *, road_has_ended: bool = True) -> list[str]:
    """Return the next steps for a run in its state; `road_has_ended`: no item of it waits for its result."""
    if run.mode == "dry-run":
        rest = [] if run.state == "complete" else ["Not all pages were counted."]
        return ["Nothing was changed. To apply it, add --apply to the same command.", *rest]
    match run.state:
        case "complete":
            retry = retry_step(run) if run.counts.get("quarantined") else []
            follow = [] if road_has_ended else step(f"backfill watch {run.id} --until-scored", "follows the jobs")
            return [*retry, *follow, *step(f"backfill verify {run.id}", "checks the result in the database")]
        case "running":
            return [
                f"Next: backfill watch {run.id}    follows it",
                f"      backfill cancel {run.id}   ends it for good",
            ]
        case "paused":
            return _of_a_paused_run(run)
        case "failed":
            return [f"Next: fix the cause shown above, then: backfill resume {run.id}"]
        case "cancelled":
            return ["Finished pages stay done.", *step(anew(run), "does the rest")]


def step(command: str, purpose: str) -> list[str]:
    """Return a command and its purpose: on one line if both fit, else on two, so that the command stays whole."""
    line = f"Next: {command}   {purpose}"
    return [line] if len(line) <= WIDTH else [f"Next: {command}", f"      {purpose}"]


def retry_step(run: Run) -> list[str]:
    """Return the command that retries a run's quarantined items."""
    return step(f"backfill retry {run.id}", "retries the quarantined items")


def anew(run: Run) -> str:
    """Return the command that starts another run of the same backfill over the same items."""
    name = "" if run.parameters.backfill == DEFAULT else f"{run.parameters.backfill} "
    again = " --rescore-all" if run.parameters.options.get("rescore_all") else ""
    scope = [("--client-id", each) for each in run.parameters.options.get("client_ids") or ()]
    scope += [("--cursor", run.parameters.cursor)] if run.parameters.cursor is not None else []
    return f"backfill run {name}--apply{again}" + "".join(
        f" {option} {quote(one_line(value))}" for option, value in scope
    )


def _of_a_paused_run(run: Run) -> list[str]:
    resume = f"backfill resume {run.id}"
    most = run.parameters.pace.max_jobs
    if most is not None and (run.reason or "").startswith("its budget"):
        return [f"Next: backfill tune {run.id} --max-jobs N   N above {most:,}, or none", f"      {resume}"]
    return step(resume, "continues where it stopped")
