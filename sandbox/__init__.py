"""Real servers for the demo, the tests and the benchmarks, and the setup of a fresh clone."""
