"""Reward functions for TRL's trainers."""

import random
from typing import Any

from repro.tasks.task import Task


class AccuracyReward:
    """1.0 for a completion that solves its problem, 0.0 for any other."""

    __name__ = "accuracy_reward"

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(self, completions: list[str], answer: list[str], **_: object) -> list[float]:
        return [float(self.task.verify(*pair)) for pair in zip(completions, answer, strict=True)]


class RandomReward:
    """A reward that knows nothing: 1.0 or 0.0 with equal probability, whatever the completion says."""

    __name__ = "random_reward"

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def __call__(self, completions: list[str], **_: object) -> list[float]:
        return [float(self._rng.random() < 0.5) for _ in completions]

    def state_dict(self) -> dict[str, Any]:
        """Where the draws are, as plain values."""
        version, internal, gauss = self._rng.getstate()
        return {"version": version, "internal": list(internal), "gauss": gauss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._rng.setstate((state["version"], tuple(state["internal"]), state["gauss"]))
