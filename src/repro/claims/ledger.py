"""The claims ledger: its entries as dataclasses. `repro.claims.reading` makes them from `configs/claims/`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from repro.claims.errors import ClaimError
from repro.claims.words import spell


class Kind(StrEnum):
    """Whose expectation a ledger entry states: the paper's, or ours for what the paper leaves open."""

    CLAIM = "claim"
    QUESTION = "question"


class Verdict(StrEnum):
    """What the runs say about a claim; `PARTLY` is for whole claims only."""

    REPRODUCED = "reproduced"
    PARTLY = "partly"
    NOT_REPRODUCED = "not reproduced"
    UNDERPOWERED = "underpowered"

    def word(self, kind: Kind) -> str:
        """The verdict in words: an open question has nothing to reproduce, only a prediction of ours to meet."""
        if kind is Kind.CLAIM:
            return str(self)
        return {
            Verdict.REPRODUCED: "as predicted",
            Verdict.PARTLY: "partly as predicted",
            Verdict.NOT_REPRODUCED: "not as predicted",
            Verdict.UNDERPOWERED: "underpowered",
        }[self]


@dataclass(frozen=True)
class Criterion:
    """A closed range; an end that is None is open."""

    at_least: float | None = None
    at_most: float | None = None

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the range, ends included."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def verdict(self, low: float, high: float) -> Verdict:
        """Reproduced if [low, high] is wholly inside the range, not reproduced if wholly outside, else underpowered."""
        if self.holds(low) and self.holds(high):
            return Verdict.REPRODUCED
        below = self.at_least is not None and high < self.at_least
        above = self.at_most is not None and low > self.at_most
        return Verdict.NOT_REPRODUCED if below or above else Verdict.UNDERPOWERED

    def text(self, unit: str) -> str:
        """The range in words, in the ledger's unit: 'at least 50 %'."""
        ends = [("at least", self.at_least), ("at most", self.at_most)]
        return " and ".join(f"{word} {spell(value, unit)}" for word, value in ends if value is not None)


@dataclass(frozen=True)
class SubClaim:
    """One measurable part of a claim, as the ledger states it.

    `arms` are the measure's, in its order; empty where it needs no runs. `figure` is the name that a notebook gives the
    figure of it, None where there is none.
    """

    id: str
    title: str
    source: str
    printed: float | None
    printed_as: str
    measure: str
    arms: tuple[str, ...]
    arguments: Mapping[str, float | str]
    unit: str
    criterion: Criterion
    reason: str
    figure: str | None
    recorded: Mapping[str, Verdict]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, or one open question, as the ledger states it.

    `arm` is the arm of the sub-claims that name none themselves; None where all do.
    """

    id: str
    number: int
    kind: Kind
    title: str
    statement: str
    source: str
    page: str
    arm: str | None
    minimum_seeds: int
    written: date
    reasoning: str
    recorded: Mapping[str, Verdict]
    subclaims: tuple[SubClaim, ...]

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms that its sub-claims need, once each."""
        return tuple(dict.fromkeys(arm for part in self.subclaims for arm in part.arms))

    def part(self, subclaim_id: str) -> SubClaim:
        """The sub-claim called `subclaim_id`, or a ClaimError naming the known ones."""
        return _named(self.subclaims, subclaim_id, f"sub-claim of {self.id!r}")


@dataclass(frozen=True)
class Ledger:
    """All claims, in the order of the files."""

    paper: Mapping[str, str]
    claims: tuple[Claim, ...]

    def claim(self, claim_id: str) -> Claim:
        """The claim called `claim_id`, or a ClaimError naming the known ones."""
        return _named(self.claims, claim_id, "claim")

    def argument(self, claim_id: str, name: str) -> float:
        """What all sub-claims of a claim that take the argument `name` give it.

        Raises:
            ClaimError: they give it several values, or none.
        """
        values = {part.arguments[name] for part in self.claim(claim_id).subclaims if name in part.arguments}
        if len(values) != 1:
            given = ", ".join(map(str, sorted(values))) or "none"
            raise ClaimError(f"{claim_id}: {name} has no single value among its sub-claims (there are {given})")
        return values.pop()


def _named(entries: tuple[Any, ...], entry_id: str, what: str) -> Any:
    for entry in entries:
        if entry.id == entry_id:
            return entry
    known = ", ".join(entry.id for entry in entries)
    raise ClaimError(f"no {what} called {entry_id!r} in the ledger (known: {known})")
