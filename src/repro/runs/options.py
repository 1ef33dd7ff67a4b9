"""How a run is carried out. Nothing of it is part of a run's identity, and nothing of it changes a number."""

import math
import os
from dataclasses import dataclass

from repro.errors import ConfigError

MINUTES = "REPRO_CHECKPOINT_MINUTES"


@dataclass(frozen=True)
class Options:
    """Choices of the one who trains.

    Args:
        checkpoint_minutes: between two checkpoints of a run, from which it goes on after it was stopped.

    Raises:
        ConfigError: for a value that a choice cannot have.
    """

    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.checkpoint_minutes < math.inf:
            raise ConfigError(f"{MINUTES}={self.checkpoint_minutes:g} is not allowed; give minutes, 0 or more")

    @classmethod
    def from_environment(cls) -> "Options":
        """The choices in the environment variable ``REPRO_CHECKPOINT_MINUTES``, the defaults where it is not set."""
        text = os.environ.get(MINUTES)
        if text is None:
            return cls()
        try:
            return cls(checkpoint_minutes=float(text))
        except ValueError:
            raise ConfigError(f"{MINUTES}={text!r} is not a number; give minutes, such as 10") from None
