"""Metrics: what Prometheus and the console read."""
