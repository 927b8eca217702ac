"""The host's job queue: when it is drained, and as an indicator how long its live jobs wait."""

from dataclasses import dataclass
from typing import ClassVar

from backfill_tasks.engine.indicators import Indicator, Query, Reading, Row
from backfill_tasks.host import sql

#: How many due jobs are looked at to find a live one: a millisecond or two by index, and 50 times what the runner of
#: the host takes at a time.
_ROWS = 1_000


@dataclass(frozen=True)
class Drain:
    """When the host takes due jobs out of its queue, oldest first: every so many seconds, at whole multiples of them.

    Our jobs come due `lead_seconds` before, so that each live job that has come by then goes first. 0: it is not known,
    and they come due at once.
    """

    seconds: float = 0.0
    lead_seconds: float = 0.0


@dataclass(frozen=True)
class LiveQueueAge(Indicator):
    """How long the oldest due job that is not ours has waited. `most` in seconds; 0: not asked."""

    schema: str
    key_prefix: str
    most: float
    name: ClassVar[str] = "live queue"

    @property
    def threshold(self) -> str:
        """In seconds."""
        return f"{self.most:g} s" if self.most else "off"

    @property
    def query(self) -> Query:
        """The first due jobs."""
        text = sql.file(self.schema, "lead_scoring/live_wait.sql")
        return Query(text, (("key_prefix", self.key_prefix), ("rows", _ROWS)))

    def judge(self, row: Row) -> Reading:
        """Where so many of our own jobs are due that no live one can be seen, the last of those stands for it."""
        most = self.most or float("inf")
        if row["behind_ours"] is not None:
            shown = f"{row['behind_ours']:,.0f} s"
            reason = f"{_ROWS:,} of our own jobs have been due for over {self.threshold}: the queue must catch up first"
            return self.compare(row["behind_ours"], most, shown, reason)
        if row["waited"] is None:
            return self.compare(0, most, "none waits", "")
        shown = f"{row['waited']:,.0f} s"
        return self.compare(row["waited"], most, shown, f"a live job has waited for {shown}, over {self.threshold}")
