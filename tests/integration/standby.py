"""A streaming standby of a PostgreSQL server that a test started."""

from urllib.parse import urlsplit

import psycopg

from sandbox.servers import Postgres, ServerError


class NoBaseBackupError(ServerError):
    """PostgreSQL's programs don't include pg_basebackup, so no standby can be created."""


class Standby(Postgres):
    """A standby that reports its position once a second. Stop it before its primary."""

    def __init__(self, primary: Postgres) -> None:
        super().__init__(settings={"fsync": "off", "wal_receiver_status_interval": "1s"})
        self._primary_url = primary.url

    def pause_replay(self) -> None:
        """Keep receiving WAL, but replay none of it."""
        self._call("pg_wal_replay_pause")

    def resume_replay(self) -> None:
        """Replay the WAL received during the pause, and continue."""
        self._call("pg_wal_replay_resume")

    def _call(self, function: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"SELECT {function}()".encode())

    def _prepare(self) -> None:
        self._programs = self._find_programs()
        self._password = urlsplit(self._primary_url).password or ""
        program = self._programs / "pg_basebackup"
        if not program.exists():
            raise NoBaseBackupError(NoBaseBackupError.__doc__)
        source = [f"--dbname={self._primary_url}", "--checkpoint=fast", "--write-recovery-conf"]
        copy = self._spawn([program, f"--pgdata={self.home / 'data'}", "--no-sync", *source])
        if copy.wait() != 0:
            raise ServerError(self._why(self.log.read_text(errors="replace")))
