"""The fault campaign: seeded, replayable random faults against a real fleet, judged by an oracle."""
