r"""Tasks over published problems in mathematics: what to train on, what to validate with, what to evaluate with.

:mod:`repro.tasks.published.sets` has the sets. They are read from the files that their names are pinned to; nothing is
downloaded unless those are not on this machine. Answers are asked for in ``\boxed{...}``, in the words that end the
questions of the authors' data, and graded by :mod:`repro.tasks.grading`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from repro import pins
from repro.errors import ConfigError
from repro.tasks.draws import shuffled
from repro.tasks.grading import Grade, grade
from repro.tasks.grading.referee import require
from repro.tasks.published import sets
from repro.tasks.published.reading import Problem, problems
from repro.tasks.published.sets import ProblemSet
from repro.tasks.task import Decoding

if TYPE_CHECKING:
    from datasets import Dataset

INSTRUCTION = r"Present the answer in LaTeX format: \boxed{Your answer}."
"""How the questions in the authors' data end."""


@dataclass(frozen=True)
class MathTask:
    """Sets of problems as the splits of a task.

    Args:
        train, validation: the sets of these splits.
        benchmarks: further splits, evaluated before the first step and after the last.

    Raises:
        ConfigError: where math-verify is not installed.
    """

    family: str
    train: ProblemSet
    validation: ProblemSet
    benchmarks: Mapping[str, ProblemSet] = field(default_factory=dict)

    @property
    def held_out(self) -> tuple[str, ...]:
        """Names of the benchmarks."""
        return tuple(self.benchmarks)

    @property
    def sets(self) -> dict[str, ProblemSet]:
        """Split -> set."""
        return {"train": self.train, "validation": self.validation, **self.benchmarks}

    @property
    def decodings(self) -> dict[str, Decoding]:
        """Of the benchmarks; validation is decoded as the run says."""
        return {split: one.decoding for split, one in self.benchmarks.items() if one.decoding is not None}

    def identity(self) -> str:
        """SHA-256 over the pins of the sets."""
        digests = {one.pin: pins.get("dataset", one.pin).digest for one in self.sets.values()}
        return hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()

    def questions(self, split: str) -> Sequence[str]:
        """All of a split, without the instruction."""
        return [problem.question for problem in self._problems(split)]

    def dataset(self, split: str, seed: int, size: int) -> "Dataset":
        """Problems in an order of the seed: of ``train`` as often as it takes, else no more than there are."""
        require()
        return drawn(self._problems(split), split, seed, size, instruction=INSTRUCTION)

    def verify(self, completion: str, answer: str) -> bool:
        """The strict score."""
        return self.grade(completion, answer).strict_right

    def grade(self, completion: str, answer: str) -> Grade:
        """Strict and lenient score."""
        return grade(completion, answer)

    def _problems(self, split: str) -> Sequence[Problem]:
        if split not in self.sets:
            raise ConfigError(f"split={split!r} is unknown; the splits are {', '.join(self.sets)}")
        return problems(self.sets[split])


def drawn(found: Sequence[Problem], split: str, seed: int, size: int, *, instruction: str = "") -> "Dataset":
    """Problems of a finite split as a dataset; the instruction follows each question."""
    from datasets import Dataset, Features, Value

    chosen = [found[place] for place in _places(split, seed, size, len(found))]
    ending = f"\n\n{instruction}" if instruction else ""
    columns = {
        "prompt": [problem.question + ending for problem in chosen],
        "answer": [problem.answer for problem in chosen],
        "level": [problem.level for problem in chosen],
    }
    features = Features(prompt=Value("string"), answer=Value("string"), level=Value("int64"))
    return Dataset.from_dict(columns, features=features)


def _places(split: str, seed: int, size: int, count: int) -> Iterator[int]:
    if split != "train":
        yield from shuffled(count, split, seed)[:size]
        return
    epochs, rest = divmod(size, count)
    for epoch in range(epochs):
        yield from shuffled(count, split, seed, epoch)
    yield from shuffled(count, split, seed, epochs)[:rest]


GSM8K = MathTask("gsm8k", train=sets.GSM8K_TRAIN, validation=sets.GSM8K_TEST)
MATH = MathTask("math", train=sets.MATH_TRAIN, validation=sets.MATH_500)
DAPO_MATH = MathTask(
    "math",
    train=sets.DAPO_MATH_17K,
    validation=sets.MATH_500,
    benchmarks={
        "aime_2024": sets.AIME_2024,
        "aime_2025": sets.AIME_2025,
        "amc": sets.AMC,
        "olympiad_bench": sets.OLYMPIAD_BENCH,
        "minerva": sets.MINERVA,
        "omni_math": sets.OMNI_MATH,
    },
)
"""With the paper's seven sets: MATH-500 to validate with, the others to evaluate with."""
