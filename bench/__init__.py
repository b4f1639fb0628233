"""Benchmarks: ``python -m bench``. What they ask and what they found stands in README.md."""
