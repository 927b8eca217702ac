"""A real PgBouncer in front of a database, in a given pool mode."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from harness import wait_for

_SETTINGS = """
[databases]
{database} = host={host} port={port} dbname={database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = plain
auth_file = {users}
pool_mode = {mode}
default_pool_size = {size}
"""


@contextmanager
def pgbouncer(url: str, directory: Path, *, mode: str, size: int = 5) -> Iterator[str]:
    """Yield the URL of the same database through a PgBouncer; skip the test if it isn't installed."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip("there is no pgbouncer (Debian: apt install pgbouncer)")
    parts = urlsplit(url)
    database = parts.path.removeprefix("/")
    users, settings, log = (directory / name for name in ("users.txt", "pgbouncer.ini", "pgbouncer.log"))
    port = _free_port()
    users.write_text(f'"{parts.username}" "{parts.password}"\n')
    settings.write_text(
        _SETTINGS.format(
            database=database, host=parts.hostname, port=parts.port, own_port=port, users=users, mode=mode, size=size
        )
    )
    # PgBouncer refuses to run as root, so it runs and reads its files as nobody. They hold a test server's password.
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    own = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()
    with log.open("wb") as output:
        process = subprocess.Popen([program, *as_nobody, str(settings)], stdout=output, stderr=output)
    try:
        wait_for(lambda: _answers(process, own), what=f"PgBouncer to answer: {log}")
        yield own
    finally:
        process.kill()
        process.wait()


def _answers(process: "subprocess.Popen[bytes]", url: str) -> bool:
    assert process.poll() is None, "PgBouncer ended"
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
