"""Beat's schedule, kept in memory, and a heartbeat file for a health check.

Celery's own scheduler keeps its times in a shelve, which it unpickles: whoever can write a file of the expected name
runs code as beat's user.
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

#: Older than any time at which an entry may have run last.
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def heartbeat_file(queue: str) -> Path:
    """Return the file whose age says when beat last sent something: in a folder of this user's in the temporary one."""
    return Path(tempfile.gettempdir()) / f"backfill-{os.geteuid()}" / f"beat-{queue}"


class Scheduler(CeleryScheduler):  # type: ignore[misc]  # Celery has no types
    """Celery's scheduler in memory. It sends everything once at its start, and touches its heartbeat file each time."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._heartbeat: Path | None = heartbeat_file(settings.load().queue)
        super().__init__(*arguments, **options)

    def setup_schedule(self) -> None:
        """Make every entry due: a lane may wait for what was not sent while beat was away."""
        super().setup_schedule()
        for entry in self.schedule.values():
            entry.last_run_at = _LONG_AGO

    def apply_async(self, *arguments: Any, **options: Any) -> Any:
        """Send a task. One that can't be sent leaves the heartbeat old."""
        sent = super().apply_async(*arguments, **options)
        if self._heartbeat is not None:
            try:
                _touch(self._heartbeat)
            except OSError as error:
                logger.warning("beat goes on without its heartbeat file, so a health check fails: %s", error)
                self._heartbeat = None
        return sent


def _touch(file: Path) -> None:
    """Touch a file in a folder that nobody else can write to.

    Raises:
        OSError: the folder is another user's, or others may write to it.
    """
    file.parent.mkdir(mode=0o700, exist_ok=True)
    found = file.parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise PermissionError(f"{file.parent} is not a folder that only this user can write to")
    file.touch(mode=0o600)
