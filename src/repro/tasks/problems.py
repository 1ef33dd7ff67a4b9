"""Problems as the dataset that trainers read."""

from collections.abc import Iterable
from typing import Protocol

from datasets import Dataset


class Problem(Protocol):
    """One problem of any task."""

    @property
    def prompt(self) -> str: ...

    @property
    def answer(self) -> str: ...

    @property
    def level(self) -> int: ...


def as_dataset(problems: Iterable[Problem]) -> Dataset:
    """Problems as a dataset with the columns ``prompt``, ``answer`` and ``level``."""
    columns = ("prompt", "answer", "level")
    rows = list(problems)
    return Dataset.from_dict({column: [getattr(row, column) for row in rows] for column in columns})
