"""From a set's files to problems."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from repro import pins
from repro.errors import ConfigError
from repro.pins.files import DATA, all_names
from repro.tasks.published.sets import ProblemSet


class Problem(NamedTuple):
    """One problem of a set."""

    question: str
    answer: str
    level: int | None


def problems(one: ProblemSet) -> tuple[Problem, ...]:
    """All problems of a pinned set, each once, in the set's order.

    Raises:
        PinError: when it is not pinned, or its files cannot be got.
        ConfigError: when it has not the columns or the answers that it should have.
    """
    return _read(one, pins.get("dataset", one.pin).digest)


@functools.lru_cache(maxsize=32)
def _read(one: ProblemSet, digest: str) -> tuple[Problem, ...]:
    """The same, kept: the digest is in the signature so that a set that is pinned again is read again."""
    rows = _rows(one, pins.resolve("dataset", one.pin))
    # The first of equal questions stands.
    return tuple({problem.question: problem for problem in _problems(one, rows)}.values())


def _rows(one: ProblemSet, folder: Path) -> Iterator[tuple[Any, ...]]:
    """Values of the columns that are used, row by row; a long set is never in memory as a whole."""
    from datasets import load_dataset

    where = f"{one.repository} ({one.config or 'default'}, {one.split})"
    data = {name for name in all_names(folder) if name.endswith(DATA)}
    unpinned = sorted(data - set(pins.get("dataset", one.pin).files))
    if unpinned:
        raise ConfigError(f"{folder / unpinned[0]} is not among the files that {one.pin!r} is pinned to; remove it")
    try:
        table = load_dataset(str(folder), one.config, split=one.split)
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{where} cannot be read: {' '.join(str(error).split())}; pin another revision of it (--revision)"
        ) from None
    columns = [column for column in (one.question, one.answer, one.level) if column is not None]
    for column in columns:
        if column not in table.column_names:
            raise ConfigError(
                f"{where} has no column {column!r}, its columns are {', '.join(table.column_names)}; pin a revision "
                "that has it (--revision)"
            )
    for batch in table.select_columns(columns).iter(batch_size=1000):
        yield from zip(*(batch[column] for column in columns), strict=True)


def _problems(one: ProblemSet, rows: Iterator[tuple[Any, ...]]) -> Iterator[Problem]:
    for number, (question, answer, *level) in enumerate(rows):
        problem = Problem(
            _value(one, number, "question", one.read_question, question).strip(),
            _value(one, number, "answer", one.read_answer, answer),
            _value(one, number, "level", one.read_level, level[0]) if level else None,
        )
        for what, text, value in (("question", problem.question, question), ("answer", problem.answer, answer)):
            if not text:
                raise ConfigError(f"{_row(one, number)}: there is no {what} in {_short(value)}")
        yield problem


def _value(one: ProblemSet, number: int, what: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        raise ConfigError(f"{_row(one, number)}: this is no {what} as the set writes it: {_short(value)}") from None


def _row(one: ProblemSet, number: int) -> str:
    return f"{one.repository}, row {number} of split {one.split!r}"


def _short(value: Any) -> str:
    return f"{value!r:.200}; pin another revision of the set (--revision)"
