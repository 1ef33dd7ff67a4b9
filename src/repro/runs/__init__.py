"""A run is a config in and a record out: identity, training, storage, provenance.

Importing this package is light; torch and the trainer are imported only when a run is trained.
"""

from repro.runs.config import RunConfig
from repro.runs.record import Run, load, load_or_train, status

__all__ = ["Run", "RunConfig", "load", "load_or_train", "status"]
