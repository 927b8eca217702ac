"""Real servers for the demo, the tests and the benchmarks, and the set-up of a fresh clone."""
