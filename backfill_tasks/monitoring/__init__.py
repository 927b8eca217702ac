"""Metrics for Prometheus and the console."""
