"""Celery's side: the app, its tasks and consumer, the fleet, the watchdog."""
