r"""Grading answers to problems in mathematics: strictly, by the required form, and leniently, by what was meant.

The required form is ``\boxed{...}``. A policy may know the answer and not the form: the lenient score, of the last
answer found in whatever form, tells the two apart, since training that teaches the form raises the strict one alone.

An answer is right where it is the same text but for notation, the same number, or by math-verify the same mathematics.
Nothing in a completion is evaluated as code. How much work an answer may cause is bounded by limits on its text, which
come out the same everywhere; only what these overlook ends by time, and a grade says so.
"""

import functools
from fractions import Fraction
from typing import NamedTuple

from repro.tasks.grading.answers import boxed, last_answer, plain
from repro.tasks.grading.limits import DIGITS, refusal
from repro.tasks.grading.referee import UNDECIDED, referee

__all__ = ["Grade", "Verdict", "compare", "grade"]


class Verdict(NamedTuple):
    """Whether an answer is right, and what that was decided by.

    ``by`` is ``text``, ``number`` or ``algebra``; ``limits`` where the answer, or the right one, is beyond what is read
    as mathematics; ``undecided`` where time or memory did not suffice. Only the first three can be right.
    """

    right: bool
    by: str


class Grade(NamedTuple):
    """The two scores of a completion; ``None`` for an answer that is not there."""

    strict: Verdict | None
    lenient: Verdict | None

    @property
    def strict_right(self) -> bool:
        """Whether the answer is there in the required form, and right."""
        return self.strict is not None and self.strict.right

    @property
    def lenient_right(self) -> bool:
        """Whether the answer is there in some form, and right."""
        return self.lenient is not None and self.lenient.right

    @property
    def undecided(self) -> bool:
        """Whether time or memory did not suffice for an answer."""
        return any(one is not None and one.by == UNDECIDED for one in self)


def grade(completion: str, answer: str) -> Grade:
    """Both scores of a completion by the right answer to its problem.

    Raises:
        ConfigError: where math-verify is needed and not installed.
    """
    found = boxed(completion)
    if found is not None:
        verdict = compare(found, answer)
        return Grade(verdict, verdict)
    found = last_answer(completion)
    return Grade(None, None if found is None else compare(found, answer))


@functools.lru_cache(maxsize=2**14)
def compare(answer: str, gold: str) -> Verdict:
    """Whether an answer is ``gold``, the right one."""
    answer, gold = plain(answer), plain(gold)
    if answer == gold:
        return Verdict(bool(gold), "text")
    numbers = _number(answer), _number(gold)
    # Two numbers that differ as decimals may still be equal when rounded, which is for algebra to say.
    if None not in numbers and (numbers[0] == numbers[1] or all(one.denominator == 1 for one in numbers)):
        return Verdict(numbers[0] == numbers[1], "number")
    if refusal(answer) or refusal(gold):
        return Verdict(False, "limits")
    found = referee().equal(answer, gold)
    return Verdict(found is True, UNDECIDED if found == UNDECIDED else "algebra")


def _number(text: str) -> Fraction | None:
    """A plain decimal or fraction of ASCII digits."""
    if len(text) > DIGITS or not text.isascii() or "_" in text or "e" in text.lower():
        return None
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None
