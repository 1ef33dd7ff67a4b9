"""Tasks of reasoning-gym, which makes problems of about a hundred kinds by itself: ``gym:leg_counting``, say.

Its items are drawn by ``seed + index``, so that seed 1 repeats seed 0 one item later; here a hash of split, seed and
index is the seed of a set of one item. A split owns problems by a hash of their text, so that none is in two.

Only kinds whose score is an exact comparison are taken. Several others evaluate what a completion says as Python, which
nothing here may do.
"""

import functools
import hashlib
import importlib.util
import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from repro.errors import ConfigError
from repro.tasks.draws import split_of
from repro.tasks.grading import Grade, Verdict
from repro.tasks.grading.answers import ANSWER_LONGEST
from repro.tasks.problems import as_dataset

if TYPE_CHECKING:
    from datasets import Dataset

INSTRUCTION = "Give the final answer between <answer> and </answer>."
ATTEMPTS = 1000
"""Items drawn for one problem until one is of the split, and not empty."""
_TAGS = re.compile(r"<answer>|</answer>")


class Problem(NamedTuple):
    """One problem."""

    prompt: str
    answer: str
    level: int | None = None


def gym_task(kind: str) -> "GymTask":
    """The task of a kind."""
    return GymTask(kind)


class GymTask:
    """One kind of problems of reasoning-gym, with its default settings.

    Raises:
        ConfigError: where reasoning-gym is not installed, or has no such kind, or one that is not compared exactly.
    """

    held_out: tuple[str, ...] = ()

    def __init__(self, kind: str) -> None:
        _require()
        self.kind, self.family = kind, f"gym:{kind}"
        exact = exact_kinds()
        if kind not in exact:
            raise ConfigError(
                f"task 'gym:{kind}' is not one of reasoning-gym's that are compared exactly; these are "
                f"{', '.join(exact)}"
            )

    def problem(self, split: str, seed: int, index: int) -> Problem:
        """The problem number ``index`` of a split: a pure function of its arguments and of reasoning-gym's version.

        Raises:
            ConfigError: for an unknown split, or a kind with too few problems for two splits.
        """
        if split not in ("train", "validation"):
            raise ConfigError(f"split={split!r} is unknown; the splits are train and validation")
        for attempt in range(ATTEMPTS):
            key = f"{self.family}|{split}|{seed}|{index}|{attempt}"
            item = _item(self.kind, int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]))
            question, answer = item["question"].strip(), str(item["answer"]).strip()
            if answer and split_of(question) == split:
                return Problem(f"{question}\n\n{INSTRUCTION}", answer)
        raise ConfigError(f"task {self.family!r} has too few problems for the split {split!r}; choose another kind")

    def dataset(self, split: str, seed: int, size: int) -> "Dataset":
        """``size`` problems as a dataset with the columns ``prompt``, ``answer`` and ``level``."""
        return as_dataset(self.problem(split, seed, index) for index in range(size))

    def verify(self, completion: str, answer: str) -> bool:
        """The strict score."""
        return self.grade(completion, answer).strict_right

    def grade(self, completion: str, answer: str) -> Grade:
        """Strict: what is between the last tags is the answer. Lenient: without tags, the last line is."""
        found = tagged(completion)
        strict = None if found is None else Verdict(found == answer, "text")
        if strict is not None:
            return Grade(strict, strict)
        lines = completion[-ANSWER_LONGEST:].strip().splitlines()
        return Grade(None, Verdict(lines[-1].strip() == answer, "text") if lines else None)


def tagged(text: str) -> str | None:
    """What stands between the last ``<answer>`` that is closed and its ``</answer>``."""
    tags = list(_TAGS.finditer(text))
    for opening, closing in reversed(list(itertools.pairwise(tags))):
        if (opening.group(), closing.group()) == ("<answer>", "</answer>"):
            return text[opening.end() : closing.start()].strip()
    return None


@functools.cache
def exact_kinds() -> tuple[str, ...]:
    """Kinds whose score is the base class's: 1 for the same text."""
    from reasoning_gym.factory import DATASETS, ProceduralDataset

    kinds = (name for name, (made, _) in DATASETS.items() if made.score_answer is ProceduralDataset.score_answer)
    return tuple(sorted(kinds))


def _item(kind: str, seed: int) -> dict[str, Any]:
    import reasoning_gym

    return reasoning_gym.create_dataset(kind, size=1, seed=seed)[0]


def _require() -> None:
    if importlib.util.find_spec("reasoning_gym") is None:
        raise ConfigError(
            "tasks named gym: come from reasoning-gym, which is not installed: `pip install reasoning-gym` installs it"
        )
