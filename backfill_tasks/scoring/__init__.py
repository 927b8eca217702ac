"""Scoring: claim the host's scoring jobs, score their leads, and write the results by the host's protocol."""
