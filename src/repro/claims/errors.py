"""What can go wrong between the ledger and a verdict."""

from repro.errors import ReproError


class ClaimError(ReproError):
    """A ledger that cannot be read, runs that cannot be measured, or verdicts that moved."""


class NoEffect(Exception):
    """A run, or a pool of runs, has nothing to measure; the message says what was missing."""
