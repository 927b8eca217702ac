"""The command `worker`: start a worker."""

import click

_DETACH = {"-D", "--detach"}


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF CELERY'S WORKER]...")
def worker(options: tuple[str, ...]) -> None:
    """Start a worker, which does the pages.

    Takes the options of Celery's worker: `celery worker --help` lists them. It is
    `celery -A backfill_tasks worker --loglevel=info` without Flower's modules, which
    saves memory.

    \b
    Examples:
      backfill worker --concurrency=2
      backfill worker --concurrency=2 --hostname=second@%h
    """
    # Celery would start `celery worker` with these options, but without the app.
    if _DETACH & set(options):
        raise click.UsageError("--detach does not work here: type celery -A backfill_tasks worker --detach")

    from celery.bin.worker import worker as program  # noqa: PLC0415  `--help` doesn't need Celery

    from backfill_tasks.cli.programs import run  # noqa: PLC0415

    run(program, ["--loglevel=info", *options])
