"""The command `beat`: start Celery beat, which sends the watchdog."""

import click


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF CELERY BEAT]...")
def beat(options: tuple[str, ...]) -> None:
    """Start beat, which sends the watchdog. One is enough.

    Takes the options of Celery's beat: `celery beat --help` lists them. It is
    `celery -A backfill_tasks beat --pidfile= --loglevel=info` without Flower's modules,
    which saves memory.

    \b
    Example:
      backfill beat
    """
    from celery.bin.beat import beat as program  # noqa: PLC0415  `--help` doesn't need Celery

    from backfill_tasks.cli.programs import run  # noqa: PLC0415

    run(program, ["--pidfile=", "--loglevel=info", *options])
