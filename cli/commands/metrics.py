"""The command `metrics`: a Prometheus exporter that reads on each scrape and answers whatever fails."""

import socket
import threading
from ipaddress import ip_address
from typing import TYPE_CHECKING
from wsgiref.simple_server import make_server

import click
from prometheus_client import CollectorRegistry, make_wsgi_app

from backfill_tasks.cli.context import CommandContext, say
from backfill_tasks.cli.signals import signals
from backfill_tasks.errors import UsageError
from backfill_tasks.monitoring.collector import exporter
from backfill_tasks.monitoring.server import Door, Server, Silent

if TYPE_CHECKING:
    from prometheus_client.exposition import ThreadingWSGIServer


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=9808,
    show_default=True,
    help="Port to listen on; 0: any free port.",
)
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.pass_obj
def metrics(context: CommandContext, *, port: int, address: str) -> None:
    """Serve /metrics for Prometheus until Ctrl-C or SIGTERM.

    Each scrape reads the ledger, the host's queue and Redis. If one can't be read, its
    metrics are left out and backfill_source_up is 0. BACKFILL_METRICS_TOKEN protects the
    endpoint. Without it, it listens on loopback only.

    \b
    Examples:
      backfill metrics
      BACKFILL_METRICS_TOKEN=... backfill metrics --address 0.0.0.0
    """
    settings = context.settings
    family, numeric = _resolved(address, port)
    if not (settings.metrics_token or ip_address(numeric).is_loopback):
        raise UsageError(f"{address} is open to other machines: set BACKFILL_METRICS_TOKEN")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter(settings, say))
    door = Door(make_wsgi_app(registry), settings.metrics_token)
    server_class: type[ThreadingWSGIServer] = type("_Server", (Server,), {"address_family": family})
    try:
        server: ThreadingWSGIServer = make_server(numeric, port, door, server_class, Silent)
    except OSError as error:
        raise UsageError(
            f"can't listen on {address}, port {port}: {error.strerror}. Change --address or --port"
        ) from None
    with server, signals() as stopped:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shown = f"[{numeric}]" if family == socket.AF_INET6 else numeric
        say(f"Metrics at http://{shown}:{server.server_port}/metrics")
        stopped.wait()
        server.shutdown()


def _resolved(address: str, port: int) -> tuple[socket.AddressFamily, str]:
    """Return the family and the numeric form of an address to listen on.

    Raises:
        UsageError: the address can't be resolved.
    """
    try:
        family, *_, found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"can't listen on {address!r}: {error}. Change --address") from None
    return family, str(found[0])
