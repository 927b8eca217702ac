"""Checks what `backfill drain` depends on: the secret, and the host of its cron route. Doesn't call the route."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from backfill_tasks.cli.context import CommandContext
from backfill_tasks.cli.doctor.finding import Finding
from backfill_tasks.drain import ledger, secret
from backfill_tasks.drain.ledger import Drain
from backfill_tasks.engine import schema
from backfill_tasks.errors import ConfigurationError
from backfill_tasks.escaping import one_line

#: How long the host may take to accept a connection, in seconds.
_CONNECT_SECONDS = 5.0

_PORTS = {"http": 80, "https": 443}


def drain(context: CommandContext) -> Iterator[Finding]:
    """Check the drain, if it is on or a secret for it is set."""
    config = context.settings
    with context.parts.engine.begin() as connection:
        known = schema.version(connection) == schema.latest()
        found = ledger.read(connection, call_seconds=config.cron_call_seconds) if known else None
    is_on = found is not None and found.is_active
    if not (is_on or config.cron_secret or config.cron_secret_file):
        return
    try:
        secret.read(config)
        yield Finding("fine", "the secret of the host's cron route is set here")
    except ConfigurationError as error:
        advice = "The workers need it, in their own environment."
        yield Finding("look", f"`backfill drain` lacks its secret here: {error}", advice)
    if found is None:
        return
    yield from _host(found, config.cron_host)
    if found.kind == "dispatched" or (found.last is not None and found.last.result == "dispatched"):
        yield Finding(
            "look",
            "the host only dispatches an event for each call of its cron route, and an event service works the jobs",
            "More calls change nothing: `backfill drain --stop`, and score here with `backfill work` instead.",
        )


def _host(found: Drain, only_host: str | None) -> Iterator[Finding]:
    """Check that the workers may send the secret to the drain's host, and that it accepts connections from here."""
    url = urlsplit(found.orders.url)
    host = one_line(url.hostname or "", most=200)
    if only_host is not None and url.hostname != only_host.lower():
        yield Finding(
            "WRONG" if found.is_active else "look",
            f"the drain's host {host} is not the one of BACKFILL_CRON_HOST, so workers don't call it",
            "Start the drain with the right --url, or correct BACKFILL_CRON_HOST and restart the workers.",
        )
        return
    try:
        with socket.create_connection((url.hostname or "", url.port or _PORTS[url.scheme]), timeout=_CONNECT_SECONDS):
            yield Finding("fine", f"the drain's host {host} accepts connections from here")
    except OSError as error:
        yield Finding(
            "look",
            f"the drain's host {host} accepts no connection from here: {error.strerror or type(error).__name__}",
            "The workers make the calls: check the --url of `backfill drain`, and that they reach the host.",
        )
