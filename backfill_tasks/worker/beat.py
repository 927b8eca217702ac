"""Beat's in-memory schedule, and a heartbeat file for a health check.

Celery's own scheduler keeps its times in a shelve, which it unpickles: anyone who can write a file of the expected name
can run code as beat's user.
"""

import os
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from celery.beat import Scheduler as CeleryScheduler
from celery.utils.log import get_logger

from backfill_tasks import settings

logger = get_logger(__name__)

#: Earlier than any possible last run of an entry.
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def heartbeat_file(queue: str) -> Path:
    """Return the path of the file whose age tells when beat last sent something.

    It is in this user's own folder below the temporary folder.
    """
    return Path(tempfile.gettempdir()) / f"backfill-{os.geteuid()}" / f"beat-{queue}"


class Scheduler(CeleryScheduler):  # type: ignore[misc]  # Celery has no types
    """Celery's scheduler, in memory. It sends every entry at start-up and touches its heartbeat file at each send."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._heartbeat: Path | None = heartbeat_file(settings.load().queue)
        super().__init__(*arguments, **options)

    def setup_schedule(self) -> None:
        """Make every entry due: lanes may be waiting for messages that weren't sent while beat was down."""
        super().setup_schedule()
        for entry in self.schedule.values():
            entry.last_run_at = _LONG_AGO

    def apply_async(self, *arguments: Any, **options: Any) -> Any:
        """Send a task and touch the heartbeat file. If the send fails, the heartbeat stays old."""
        sent = super().apply_async(*arguments, **options)
        if self._heartbeat is not None:
            try:
                _touch(self._heartbeat)
            except OSError as error:
                logger.warning(
                    "beat can't write its heartbeat file. It continues, but its health check will fail: %s", error
                )
                self._heartbeat = None
        return sent


def _touch(file: Path) -> None:
    """Touch a file in a folder that only this user can write to.

    Raises:
        OSError: the folder belongs to another user, or others may write to it.
    """
    file.parent.mkdir(mode=0o700, exist_ok=True)
    found = file.parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{file.parent} is not a folder that only this user can write to")
    file.touch(mode=0o600)
