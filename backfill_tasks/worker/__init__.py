"""The Celery side: the app, its tasks and consumer, fleet queries, and the watchdog."""
