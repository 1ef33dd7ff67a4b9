"""How a run is carried out. Nothing of it is part of a run's identity, and nothing of it changes a number."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from repro.errors import ConfigError

MINUTES, REPORT_TO = "REPRO_CHECKPOINT_MINUTES", "REPRO_REPORT_TO"
TOOLS = ("tensorboard", "trackio", "wandb")


@dataclass(frozen=True)
class Options:
    """Choices of the one who trains.

    Args:
        checkpoint_minutes: between two checkpoints of a run, from which it goes on after it was stopped.
        report_to: the tools that show the log as it grows, of ``tensorboard``, ``trackio`` and ``wandb``.
        save_policy: a folder, below which trained policies are saved under the names of their runs; None for not.

    Raises:
        ConfigError: for a value that a choice cannot have.
    """

    checkpoint_minutes: float = 10.0
    report_to: tuple[str, ...] = ()
    save_policy: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.checkpoint_minutes < math.inf:
            raise ConfigError(f"{MINUTES}={self.checkpoint_minutes:g} is not allowed; give minutes, 0 or more")
        for name in self.report_to:
            if name not in TOOLS:
                raise ConfigError(f"report_to={name} is unknown; choose of {', '.join(TOOLS)}")

    @classmethod
    def from_environment(cls) -> "Options":
        """The choices in the environment: ``REPRO_CHECKPOINT_MINUTES``, and ``REPRO_REPORT_TO`` with commas between."""
        text = os.environ.get(MINUTES)
        try:
            minutes = cls.checkpoint_minutes if text is None else float(text)
        except ValueError:
            raise ConfigError(f"{MINUTES}={text!r} is not a number; give minutes, such as 10") from None
        tools = (name.strip() for name in os.environ.get(REPORT_TO, "").split(","))
        return cls(checkpoint_minutes=minutes, report_to=tuple(name for name in tools if name))
