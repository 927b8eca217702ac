"""Backfills of a live PostgreSQL database, walked page by page by Celery workers."""

from importlib.metadata import version

__version__ = version("backfill")
