"""The entry point of the command `backfill`."""

import gc


def main() -> None:
    """Import the command line and run it."""
    # Imports create no garbage, yet the collector would look for it again and again. It is turned on once the command
    # that is called is imported, too (backfill_tasks.cli.main).
    gc.disable()
    from backfill_tasks.cli.main import main as command_line  # noqa: PLC0415  imported with the collector off

    command_line()
