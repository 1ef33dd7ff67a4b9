"""Overlap: how many problems of an evaluation stand in the training set too.

Two measures, both of text without case, punctuation and spacing: the same question, and a run of words in common, as
many as GPT-3's report takes for contamination, 13 (Brown et al. 2020, appendix C). A shorter question is taken whole.
Set phrases of a genre are in common too, so the second measure says where to look.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

WORDS = 13
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Overlap:
    """Of one evaluation set: places, from 0, of the problems that stand in the training set.

    Args:
        problems: of the evaluation set.
        same: the same question.
        similar: those, and others with a run of words in common.
    """

    problems: int
    same: tuple[int, ...]
    similar: tuple[int, ...]


def overlap(train: Iterable[str], evaluation: Sequence[str], *, words: int = WORDS) -> Overlap:
    """The overlap of two sets of questions, in time and memory linear in their words."""
    wanted = [_normal(question) for question in evaluation]
    runs: dict[tuple[str, ...], set[int]] = {}
    for place, question in enumerate(wanted):
        for run in _runs(question, words):
            runs.setdefault(run, set()).add(place)
    whole = {tuple(question): set() for question in wanted}
    for place, question in enumerate(wanted):
        whole[tuple(question)].add(place)
    shorter = sorted({len(run) for run in runs if len(run) < words})
    same: set[int] = set()
    similar: set[int] = set()
    for question in map(_normal, train):
        same |= whole.get(tuple(question), set())
        for length in (words, *shorter):
            for run in _runs(question, length):
                similar |= runs.get(run, set())
    return Overlap(len(evaluation), tuple(sorted(same)), tuple(sorted(same | similar)))


def _normal(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _runs(question: list[str], words: int) -> Iterator[tuple[str, ...]]:
    if 0 < len(question) < words:
        yield tuple(question)
    for start in range(len(question) - words + 1):
        yield tuple(question[start : start + words])
