"""Where the command begins."""

import gc


def main() -> None:
    """Import the command line, and run it."""
    # Nothing that is imported is garbage. To look for some again and again is a quarter of what the start takes.
    gc.disable()
    from backfill_tasks.cli.main import main as command_line  # noqa: PLC0415  that is what is to be quicker

    gc.freeze()
    gc.enable()
    command_line()
