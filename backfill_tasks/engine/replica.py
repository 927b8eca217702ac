"""Verification on a standby: whether it follows this database's server and has replayed all that a run wrote."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, text

from backfill_tasks.engine import ledger, schema
from backfill_tasks.engine.database import begin_read_only, load_sql, statement
from backfill_tasks.engine.model import Run
from backfill_tasks.errors import StandbyError, UnverifiedError

#: How often the standby's position is polled, in seconds.
_PAUSE_SECONDS = 0.2

#: The extra time granted to a busy primary to flush its commits, in seconds.
_GRACE_SECONDS = 2.0


@dataclass(frozen=True)
class Server:
    """The server that a verification reads from.

    Attributes:
        name: `primary`, or the standby's address.
        replayed: the standby's WAL position before the verification, as pg_lsn; None for the primary.
        related: whether the standby is known to follow the primary's server: a role may lack the right to ask.
    """

    name: str = "primary"
    replayed: str | None = None
    related: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return the fields of `verify --json`."""
        return {"server": self.name, "replayed": self.replayed}

    def __str__(self) -> str:
        return self.name if self.replayed is None else f"{self.name}, a standby, at {self.replayed}"


@dataclass(frozen=True)
class _Position:
    """A server's WAL position; see sql/wal_position.sql.

    `system`: its system identifier; None: this role may not ask.
    """

    standby: bool
    bytes: int
    flushed: int
    flush_seconds: float
    system: int | None

    @property
    def lsn(self) -> str:
        """The position in PostgreSQL's notation."""
        return f"{self.bytes >> 32:X}/{self.bytes & 0xFFFFFFFF:X}"


@dataclass(frozen=True)
class Replica:
    """A standby at `address`, reached by `engine`, and the primary whose runs it verifies.

    A physical standby replays the primary's WAL in order. Once it has reached the position the primary had when a run
    was read there, it has every row that the run had changed by then.
    """

    engine: Engine
    address: str
    primary: Engine
    statement_ms: int

    def catch_up(self, run: Run, *, seconds: float) -> tuple[Server, Run]:
        """Wait until the standby has all that a run wrote; return the server, and the run as recorded there.

        Args:
            run: as recorded in the primary's ledger.
            seconds: how long to wait.

        Raises:
            StandbyError: it is not a standby of this database.
            UnverifiedError: it has not replayed all that the run wrote in that time.
        """
        written = self._written()
        needed, began = written.bytes, time.monotonic()
        while True:
            with self.engine.begin() as connection:
                begin_read_only(connection, statement_ms=self.statement_ms)
                replayed = _position(connection)
                self._refuse_strangers(written, replayed)
                if replayed.bytes >= needed:
                    return Server(self.address, replayed.lsn, replayed.system is not None), self._read(connection, run)
                if time.monotonic() > began + seconds:
                    raise UnverifiedError(self._lag(connection, run, needed - replayed.bytes))
            time.sleep(_PAUSE_SECONDS)
            if time.monotonic() > began + written.flush_seconds + _GRACE_SECONDS:
                needed = min(needed, self._written().flushed)  # WAL beyond it belongs to no commit

    def _written(self) -> _Position:
        with self.primary.begin() as connection:
            return _position(connection)

    def _refuse_strangers(self, written: _Position, replayed: _Position) -> None:
        if not replayed.standby:
            raise StandbyError(
                f"{self.address} is not a standby: it accepts writes. Point BACKFILL_REPLICA_URL at a standby"
            )
        if None not in (written.system, replayed.system) and written.system != replayed.system:
            raise StandbyError(
                f"{self.address} is a standby of another server (system identifier {replayed.system}, not"
                f" {written.system}). Point BACKFILL_REPLICA_URL at a standby of DATABASE_URL's server"
            )

    def _read(self, connection: Connection, run: Run) -> Run:
        found = ledger.read_run(connection, run.id) if schema.version(connection) else None
        if found is None:
            raise StandbyError(
                f"{self.address} has replayed everything and has no run {run.id}. Point BACKFILL_REPLICA_URL at the"
                " database that DATABASE_URL names"
            )
        return found

    def _lag(self, connection: Connection, run: Run, missing: int) -> str:
        paused = connection.execute(text("SELECT pg_is_wal_replay_paused()")).scalar_one()
        why, remedy = (
            (" because its replay is paused", "after SELECT pg_wal_replay_resume() there")
            if paused
            else ("", "once it has caught up")
        )
        return (
            f"NOT VERIFIED: the standby {self.address} lacks the last {missing:,} bytes of WAL that had been written"
            f" when run {run.id} was read{why}. Type the command again {remedy}"
        )


def _position(connection: Connection) -> _Position:
    row = connection.execute(statement(load_sql("backfill_tasks.engine", "sql/wal_position.sql"))).one()
    system = None
    if row.tells_its_system:
        system = connection.execute(text("SELECT system_identifier FROM pg_control_system()")).scalar_one()
    return _Position(row.standby, row.position, row.flushed, row.flush_seconds, system)
