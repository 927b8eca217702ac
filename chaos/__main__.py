"""The command `make chaos`."""

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from chaos import report
from chaos.campaign import play_schedule
from chaos.fleet import CampaignError, small_disk_is_possible
from chaos.schedule import BY_NAME, FAULTS, KINDS, draw
from sandbox.process import ServerError

if TYPE_CHECKING:
    from chaos.findings import Findings

#: Two short schedules, for a check that runs often.
SHORT_SEEDS, SHORT_FAULTS = (1, 2), 5

_ONLY = "play only this kind of fault, named as in the table; repeatable"


def main() -> int:
    """Run a campaign. Return 0 if no promise was broken, 1 if one was, 2 if the campaign itself failed."""
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    without = frozenset() if small_disk_is_possible() else frozenset({"postgres: disk full"})
    for name in sorted(without):
        _say(f"{name}: skipped, because this machine can't mount a small file system")
    campaign: list[Findings] = []
    try:
        for seed in _seeds(options):
            _say(f"seed {seed}")
            schedule = draw(seed, faults=options.faults, kinds=options.kinds, without=without)
            campaign.append(play_schedule(schedule, _say, logs=options.logs))
            for line in report.verdict(campaign[-1], replay=_replay(options, seed)):
                _say(line)
            if options.json is not None:
                options.json.write_text(json.dumps(report.as_json(campaign, without), indent=1))
    except (CampaignError, ServerError) as error:
        _say(f"chaos: {error}")
        return 2
    for line in ["", *report.table(campaign), "", *report.summary(campaign, without)]:
        _say(line)
    return 1 if any(each.violations for each in campaign) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description="Play random faults against a real fleet.")
    parser.add_argument("--seed", type=int, action="append", help="play the schedule of this seed; repeatable")
    parser.add_argument("--schedules", type=int, default=1, help="number of schedules to play (%(default)s)")
    parser.add_argument("--first", type=int, default=1, help="seed of the first schedule (%(default)s)")
    parser.add_argument("--faults", type=int, help=f"faults per schedule ({FAULTS}, or one of each --only)")
    parser.add_argument("--only", choices=sorted(BY_NAME), action="append", metavar="KIND", help=_ONLY)
    parser.add_argument("--short", action="store_true", help="two short schedules, in less than five minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings to this file after each schedule")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep the logs of workers and beat in this folder")
    options = parser.parse_args()
    options.kinds = [BY_NAME[name] for name in options.only or ()] or KINDS
    if options.faults is None:
        options.faults = len(options.only or ()) or FAULTS
    if options.short:
        options.seed, options.faults = list(SHORT_SEEDS), SHORT_FAULTS
    if options.faults < 1 or options.schedules < 1:
        parser.error("--faults and --schedules must be 1 or more")
    return options


def _seeds(options: argparse.Namespace) -> list[int]:
    return options.seed or list(range(options.first, options.first + options.schedules))


def _replay(options: argparse.Namespace, seed: int) -> str:
    """Return the command that replays one schedule."""
    only = "".join(f" --only '{name}'" for name in options.only or ())
    return f'make chaos ARGS="--seed {seed} --faults {options.faults}{only}"'


def _stop(number: int, _: FrameType | None) -> None:
    """End at once: the fault threads may wait for minutes, and the guards end what this process has started."""
    os.write(sys.stdout.fileno(), b"chaos: stopped; what it has started ends within seconds\n")
    os._exit(128 + number)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 (what the command is for)


if __name__ == "__main__":
    sys.exit(main())
