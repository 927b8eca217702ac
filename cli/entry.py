"""The entry point of the command `backfill`."""

import gc


def main() -> None:
    """Import the command line and run it."""
    # Imports create no garbage, yet collecting it would take a quarter of the start-up time.
    gc.disable()
    from backfill_tasks.cli.main import main as command_line  # noqa: PLC0415  imported with the collector off

    gc.freeze()
    gc.enable()
    command_line()
