"""One script for a GPU host: `python -m benchmarks.gpu OUT.json`. See `docs/performance.md`."""
