"""Reward functions for TRL's trainers."""

import random
from collections.abc import Callable
from typing import Any

from repro.tasks.task import GradedTask, Task


class AccuracyReward:
    """1.0 for a completion that solves its problem, 0.0 for any other.

    Of a task that grades, this is the strict score. The lenient one, and the share of completions whose answer could
    not be decided in time, are logged beside it.
    """

    __name__ = "accuracy_reward"

    def __init__(self, task: Task) -> None:
        self.task = task

    def __call__(
        self,
        completions: list[str],
        answer: list[str],
        log_metric: Callable[[str, float], None] | None = None,
        **_: object,
    ) -> list[float]:
        if isinstance(self.task, GradedTask):
            return self._graded(completions, answer, log_metric)
        return [float(self.task.verify(*pair)) for pair in zip(completions, answer, strict=True)]

    def _graded(
        self, completions: list[str], answer: list[str], log_metric: Callable[[str, float], None] | None
    ) -> list[float]:
        grades = [self.task.grade(*pair) for pair in zip(completions, answer, strict=True)]
        if log_metric is not None:
            log_metric("accuracy/lenient", sum(one.lenient_right for one in grades) / len(grades))
            log_metric("accuracy/undecided", sum(one.undecided for one in grades) / len(grades))
        return [float(one.strict_right) for one in grades]


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
