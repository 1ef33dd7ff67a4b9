r"""Problems of one's own: JSONL or Parquet with the columns ``prompt``, ``answer`` and, where wanted, ``level``.

``prompt`` is text, put to the policy as it is; it should ask for the answer in ``\boxed{...}``, which the strict score
looks for. ``answer`` is the right answer as text, in plain words or LaTeX. ``level`` is a whole number. There are no
other columns.

A pinned file is split by a hash of the prompts, a tenth for validation. Of a pinned folder or repository, files whose
names start with ``train`` and with ``validation``, ``valid``, ``dev`` or ``test`` are the two splits.
"""

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from repro import pins
from repro.checked import Checked, read
from repro.errors import ConfigError
from repro.tasks.draws import split_of
from repro.tasks.grading import Grade, grade
from repro.tasks.grading.referee import require
from repro.tasks.published import drawn
from repro.tasks.published.reading import Problem
from repro.tasks.task import Decoding

if TYPE_CHECKING:
    from datasets import Dataset

VALIDATION = ("validation", "valid", "dev", "test")


class _Row(Checked):
    prompt: Annotated[str, Field(min_length=1)]
    answer: Annotated[str, Field(min_length=1)]
    level: int | None = None


class OwnTask:
    """A task over files of one's own, by the name of their pin, such as ``local:mine`` or ``hub:me/mine``.

    Raises:
        PinError: when the name is not pinned.
    """

    held_out: tuple[str, ...] = ()
    decodings: dict[str, Decoding] = {}  # noqa: RUF012 - there are none, and nobody adds one

    def __init__(self, name: str) -> None:
        self.name = self.family = name
        pins.get("dataset", name)

    def identity(self) -> str:
        """The digest of the pin."""
        return pins.get("dataset", self.name).digest

    def questions(self, split: str) -> Sequence[str]:
        """The prompts of a split."""
        return [problem.question for problem in self._problems(split)]

    def dataset(self, split: str, seed: int, size: int) -> "Dataset":
        """Problems in an order of the seed: of ``train`` as often as it takes, else no more than there are."""
        require()
        return drawn(self._problems(split), split, seed, size)

    def verify(self, completion: str, answer: str) -> bool:
        """The strict score."""
        return self.grade(completion, answer).strict_right

    def grade(self, completion: str, answer: str) -> Grade:
        """Strict and lenient score."""
        return grade(completion, answer)

    def _problems(self, split: str) -> Sequence[Problem]:
        found = _read(self.name, self.identity())
        if split not in found:
            raise ConfigError(f"split={split!r} is unknown; the splits are {', '.join(found)}")
        return found[split]


def on_the_hub(name: str) -> OwnTask:
    """The task of a pinned repository."""
    return OwnTask(f"hub:{name}")


def on_this_machine(name: str) -> OwnTask:
    """The task of a pinned folder or file."""
    return OwnTask(f"local:{name}")


@functools.lru_cache(maxsize=32)
def _read(name: str, digest: str) -> dict[str, tuple[Problem, ...]]:
    """Both splits of a pin; its digest is in the signature so that one that is pinned again is read again."""
    folder, files = pins.resolve("dataset", name), [*pins.get("dataset", name).files]
    files = [file for file in files if file.endswith((".jsonl", ".parquet"))]
    splits: dict[str, list[Problem]] = {"train": [], "validation": []}
    for file in files:
        for problem in map(_problem, read_rows(folder / file)):
            named = _split_of_file(file) if len(files) > 1 else split_of(problem.question)
            if named is None:
                raise ConfigError(
                    f"{folder / file}: the name does not say which split it is; let it start with train or validation"
                )
            splits[named].append(problem)
    for split, problems in splits.items():
        if not problems:
            raise ConfigError(
                f"{name!r} has no problems for the split {split!r}: add a file {split}.jsonl or {split}.parquet, or "
                "pin a single file of some tens of problems, a tenth of which is for validation"
            )
    return {split: tuple(problems) for split, problems in splits.items()}


def _split_of_file(file: str) -> str | None:
    stem = PurePosixPath(file).name
    return "train" if stem.startswith("train") else "validation" if stem.startswith(VALIDATION) else None


def _problem(row: _Row) -> Problem:
    return Problem(row.prompt, row.answer, row.level)


def read_rows(path: Path) -> Iterator[_Row]:
    """The rows of a JSONL or Parquet file, checked.

    Raises:
        ConfigError: naming file, row (counted from 1, in JSONL the line) and column.
    """
    for number, values in enumerate(_values(path), start=1):
        yield read(_Row, values, f"{path}, row {number}")


def _values(path: Path) -> Iterator[Any]:
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield json.loads(line.decode("utf-8"))
            except ValueError as error:
                raise ConfigError(
                    f"{path}, row {number}: not a JSON object in UTF-8 ({error}); write one on each line"
                ) from None


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise ConfigError(f"{path}: not a Parquet file ({error}); write it again") from None
    with table:
        for batch in table.iter_batches(batch_size=1000):
            yield from batch.to_pylist()
