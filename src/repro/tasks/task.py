"""What a task is."""

import random
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datasets import Dataset


class Task(Protocol):
    """A distribution over problems, a verifier, and demonstrations for a policy that starts from nothing."""

    family: str
    """Tasks of one family have the same validation problems: it is what those are drawn by."""
    held_out: tuple[str, ...]
    """Splits that are evaluated beside ``validation``, before the first step and after the last."""
    tokens: tuple[str, ...]
    """What prompts and solutions are written with: the vocabulary of a policy trained from scratch, in order."""
    separator: str
    """What stands between two tokens of a text: a space, or nothing where each token is a character."""
    longest: int
    """Tokens that a prompt and its completion may have together."""

    def dataset(self, split: str, seed: int, size: int) -> "Dataset":
        """``size`` problems of a split as a dataset, a pure function of the arguments.

        No problem is in two splits. The columns are ``prompt``; ``answer``, the text that ``verify`` grades by; and
        ``level``, the difficulty, a whole number.

        Raises:
            ConfigError: for an unknown split.
        """

    def verify(self, completion: str, answer: str) -> bool:
        """Whether a completion solves the problem.

        Exact, for any text, in linear time; nothing in a completion is ever evaluated.
        """

    def demonstration(self, mixture: str, seed: int, index: int, rng: random.Random, *, clean: bool) -> tuple[str, str]:
        """The prompt of training problem number ``index`` and a solution of it, for a base policy to imitate.

        Args:
            mixture: how solutions are drawn, by one of the task's own names.
            seed, index: which problem.
            rng: where the solution's draws come from.
            clean: as the first stage of training shows them, without mistakes.

        Raises:
            ConfigError: for an unknown mixture, naming those there are.
        """
