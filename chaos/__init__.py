"""The fault campaign: random faults, replayed from a seed, against a real fleet, and an oracle."""
