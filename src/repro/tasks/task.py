"""What a task is."""

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from datasets import Dataset

    from repro.tasks.grading import Grade


class Task(Protocol):
    """Problems to train on and to evaluate with, and a verifier."""

    family: str
    """Tasks of one family have the same validation problems: it is what those are drawn by."""
    held_out: tuple[str, ...]
    """Splits that are evaluated beside ``validation``, before the first step and after the last."""

    def dataset(self, split: str, seed: int, size: int) -> "Dataset":
        """``size`` problems of a split as a dataset, a pure function of the arguments.

        A task that makes its problems has none in two splits. Of a finite set, training problems come round again once
        all were drawn, and another split gives no more than it has. The columns are ``prompt``; ``answer``, the text
        that ``verify`` grades by; and ``level``, the difficulty, a whole number, or None where it is not known.

        Raises:
            ConfigError: for an unknown split.
        """

    def verify(self, completion: str, answer: str) -> bool:
        """Whether a completion solves the problem.

        The same for any text on any machine, in bounded time; nothing in a completion is ever evaluated as code.
        """


@runtime_checkable
class TaughtTask(Task, Protocol):
    """A task that a policy can learn from nothing: a language of few tokens, and demonstrations in it."""

    tokens: tuple[str, ...]
    """What prompts and solutions are written with: the vocabulary of a policy trained from scratch, in order."""
    separator: str
    """What stands between two tokens of a text: a space, or nothing where each token is a character."""
    longest: int
    """Tokens that a prompt and its completion may have together."""

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


@runtime_checkable
class GradedTask(Task, Protocol):
    """A task whose answers have a required form: ``verify`` is the strict score, and there is a lenient one."""

    def grade(self, completion: str, answer: str) -> "Grade":
        """Both scores of a completion."""


class Decoding(NamedTuple):
    """How completions are drawn for an evaluation; greedy is temperature 0 with one sample."""

    temperature: float
    samples: int


@runtime_checkable
class PublishedTask(GradedTask, Protocol):
    """A task over published sets of problems."""

    decodings: Mapping[str, Decoding]
    """Of the splits whose decoding is part of what they measure."""

    def questions(self, split: str) -> Sequence[str]:
        """All problems of a split as they stand in their set, without instructions."""

    def identity(self) -> str:
        """Hexadecimal digits that differ whenever the problems do, found without reading them.

        Raises:
            PinError: where a set is not pinned.
        """
