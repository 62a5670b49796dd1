"""Benchmarks: `python -m bench.NAME [--check]` prints a short table, the figure last; --check fails below the bar."""
