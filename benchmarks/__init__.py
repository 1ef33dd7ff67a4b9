"""Benchmarks of the covariance operators against what exists, side by side in one process."""

import os

# Read when torch is imported. On a machine that other work shares, OpenMP's threads otherwise spin for milliseconds
# waiting for a worker that has no core, and every method measures that.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
