"""The claims ledger: what an entry of `configs/claims/` is, checked when it is made."""

from collections import Counter
from collections.abc import Iterable
from datetime import date
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from repro.checked import Checked
from repro.claims.errors import ClaimError
from repro.claims.registry import MEASURES
from repro.claims.words import spell_limit

# Parts of a run or of its tokens, wherever a measure takes them.
_PARTS = ("fraction", "window")


class Kind(StrEnum):
    """Whose expectation a ledger entry states: the paper's, or ours for what the paper leaves open."""

    CLAIM = "claim"
    QUESTION = "question"


class Verdict(StrEnum):
    """What the runs say about a sub-claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    UNDERPOWERED = "underpowered"

    def word(self, kind: Kind) -> str:
        """The verdict in words: an open question has nothing to reproduce, only a prediction of ours to meet."""
        if kind is Kind.CLAIM:
            return str(self)
        return {
            Verdict.REPRODUCED: "as predicted",
            Verdict.NOT_REPRODUCED: "not as predicted",
            Verdict.UNDERPOWERED: "underpowered",
        }[self]


def _number(value: Any) -> float:
    """A number, or a fraction such as '1/12' written as text."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        return float(Fraction(value))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"must be a number or a fraction such as 1/12, got {value!r}") from None


def _kind(value: Any) -> Kind:
    if value not in list(Kind):
        raise ValueError(f"must be {' or '.join(Kind)}, got {value!r}")
    return Kind(value)


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


Item = TypeVar("Item")


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _distinct(items: tuple[Item, ...]) -> tuple[Item, ...]:
    names = Counter(one if isinstance(one, str) else one.id for one in items)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"{twice[0]!r} appears more than once")
    return items


Text = Annotated[str, AfterValidator(_said)]
Number = Annotated[float, BeforeValidator(_number)]
# YAML has lists and text.
Distinct = Annotated[tuple[Item, ...], BeforeValidator(_tuple), AfterValidator(_distinct)]


class Criterion(Checked):
    """A closed range; an end that is None is open."""

    at_least: Number | None = None
    at_most: Number | None = None

    @model_validator(mode="after")
    def _has_an_end(self) -> "Criterion":
        if self.at_least is None and self.at_most is None:
            raise ValueError("needs at_least, at_most or both")
        if None not in (self.at_least, self.at_most) and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least:g} is above at_most {self.at_most:g}")
        return self

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
        return " and ".join(f"{word} {spell_limit(value, unit)}" for word, value in ends if value is not None)


class Change(Checked):
    """What was changed of a sub-claim after its date, and why: its criterion, or whether it counts."""

    date: date
    reason: Text


class SubClaim(Checked):
    """One measurable part of a claim.

    `arms` are the measure's, in its order; empty where it needs no runs. `figure` is the name that a notebook gives the
    figure of it. `recorded` is the verdict's word by profile. `plotted` is what the paper's own figure gives where that
    lies outside the range that its text sets.

    Shown, but left out of the tally of its claim, is a sub-claim that is an `identity` of mathematics, one that the
    testbed has no means to test (`untestable` says why), and one that fails whenever the sibling fails that it
    `follows`. With `minimum_bases`, arms need so many base policies each, as blocks; `minimum_seeds` replaces the
    claim's where a quantity scatters less.

    `again` is the sub-claim of another claim, as `claim.sub_claim`, that it measures once more on another testbed.
    """

    id: Text
    title: Text
    source: Text
    printed: Number | None = None
    printed_as: Text = "not reported"
    measure: Text
    arms: Distinct[Text]
    arguments: dict[str, Any] = Field(default_factory=dict)
    unit: str
    criterion: Criterion
    reason: Text
    plotted: Number | None = None
    identity: bool = False
    untestable: Text | None = None
    follows: Text | None = None
    again: Text | None = None
    minimum_seeds: Annotated[int, Field(ge=2)] | None = None
    minimum_bases: Annotated[int, Field(ge=2)] | None = None
    changed: Annotated[tuple[Change, ...], BeforeValidator(_tuple)] = ()
    figure: Text | None = None
    recorded: dict[str, str] = Field(default_factory=dict)

    @field_validator("measure")
    @classmethod
    def _is_registered(cls, name: str) -> str:
        if name not in MEASURES:
            raise ValueError(f"no measure called {name!r} (known: {', '.join(MEASURES)})")
        return name

    @field_validator("arms")
    @classmethod
    def _as_many_as_measured(cls, arms: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if measure := MEASURES.get(info.data.get("measure")):
            if measure.arms is not None and measure.arms != len(arms):
                raise ValueError(f"{measure.name} takes {measure.arms} arms, got {', '.join(arms) or 'none'}")
            if not arms and not measure.pooled:
                raise ValueError(f"{measure.name} is measured per seed and needs at least one arm")
        return arms

    @field_validator("arguments")
    @classmethod
    def _of_the_measure(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if not (measure := MEASURES.get(info.data.get("measure"))):
            return given
        known = measure.arguments
        required = {name for name, parameter in known.items() if parameter.default is parameter.empty}
        if not required <= set(given) <= set(known):
            wanted, got = ", ".join(sorted(known)) or "none", ", ".join(sorted(given)) or "none"
            raise ValueError(f"{measure.name} takes the arguments {wanted}; got {got}")
        return {name: _argument(name, value, known[name].annotation) for name, value in given.items()}

    @model_validator(mode="after")
    def _makes_sense(self) -> "SubClaim":
        if self.plotted is not None and self.criterion.holds(self.plotted):
            raise ValueError(f"plotted={self.plotted:g} lies inside the range; leave it out where the figure agrees")
        left_out = [name for name in ("identity", "untestable", "follows") if getattr(self, name)]
        if len(left_out) > 1:
            raise ValueError(f"has both {' and '.join(left_out)}; give the one reason that keeps it out of the tally")
        return self

    @property
    def counts(self) -> bool:
        """Whether its verdict is part of the claim's tally."""
        return not (self.identity or self.untestable or self.follows)


def _argument(name: str, value: Any, kind: type) -> float | int | str:
    """A value of the type that the measure's parameter is annotated with."""
    if kind is not float:
        if type(value) is not kind:
            raise ValueError(f"{name} must be {'an integer' if kind is int else 'text'}, got {value!r}")
        return value
    try:
        number = _number(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
    if name in _PARTS and not 0 < number < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {number:g}")
    if name == "minimum" and number <= 0:
        raise ValueError(f"{name} must be positive, got {number:g}")
    return number


class Claim(Checked):
    """One claim of the paper, or one open question.

    `primary` is the sub-claim whose verdict is the claim's, as a trial has one primary outcome. `arm` is the arm of the
    sub-claims that name none themselves; None where all do.
    """

    id: Text
    number: int
    kind: Annotated[Kind, BeforeValidator(_kind)] = Kind.CLAIM
    title: Text
    statement: Text
    source: Text
    page: Text
    primary: Text
    arm: Text | None = None
    minimum_seeds: Annotated[int, Field(ge=2)]
    written: date
    reasoning: Text
    subclaims: Annotated[Distinct[SubClaim], Field(min_length=1)]

    @field_validator("subclaims", mode="before")
    @classmethod
    def _with_arms(cls, parts: Any, info: ValidationInfo) -> Any:
        if not isinstance(parts, list):
            return parts
        lacking = [part for part in parts if isinstance(part, dict) and "arms" not in part]
        if lacking and info.data.get("arm") is None:
            raise ValueError(f"{lacking[0].get('id')}: arms is missing, and the claim has no arm to take in its place")
        return [part | {"arms": [info.data["arm"]]} if part in lacking else part for part in parts]

    @model_validator(mode="after")
    def _recorded_in_its_words(self) -> "Claim":
        words = [verdict.word(self.kind) for verdict in Verdict]
        for part in self.subclaims:
            for profile, word in part.recorded.items():
                if word not in words:
                    raise ValueError(f"{part.id}: recorded.{profile} must be one of {', '.join(words)}, got {word!r}")
        return self

    @model_validator(mode="after")
    def _names_parts_that_count(self) -> "Claim":
        counting = [part.id for part in self.subclaims if part.counts]
        named = [("primary", self.primary), *((f"{part.id}: follows", part.follows) for part in self.subclaims)]
        for what, name in named:
            if name is not None and name not in counting:
                raise ValueError(f"{what}={name!r} is no sub-claim that counts (those are {', '.join(counting)})")
        return self

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms that its sub-claims need, once each."""
        return tuple(dict.fromkeys(arm for part in self.subclaims for arm in part.arms))

    def part(self, subclaim_id: str) -> SubClaim:
        """The sub-claim called `subclaim_id`, or a ClaimError naming the known ones."""
        return _named(self.subclaims, subclaim_id, f"sub-claim of {self.id!r}")


class Paper(Checked):
    """The paper that the claims are of: its key in the bibliography, and the version that was read."""

    key: Text
    version: Text


class Ledger(Checked):
    """All claims, in the order of the files."""

    paper: Paper
    claims: Distinct[Claim]

    @model_validator(mode="after")
    def _measures_again_what_is_there(self) -> "Ledger":
        measures = {f"{claim.id}.{part.id}": part.measure for claim in self.claims for part in claim.subclaims}
        for part in (part for claim in self.claims for part in claim.subclaims if part.again):
            there = measures.get(part.again)
            if there != part.measure:
                found = f"is measured by {there}" if there else "is not in the ledger"
                raise ValueError(
                    f"{part.id}: again={part.again!r} {found}; name a claim.sub_claim measured by {part.measure}"
                )
        return self

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


def _named(entries: Iterable[Any], entry_id: str, what: str) -> Any:
    by_id = {entry.id: entry for entry in entries}
    if entry_id not in by_id:
        raise ClaimError(f"no {what} called {entry_id!r} in the ledger (known: {', '.join(by_id)})")
    return by_id[entry_id]
