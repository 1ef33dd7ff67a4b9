"""How firm a verdict is: how near its interval comes to another word, and which word other machines' studies give.

A word is all or nothing, and an interval that ends near the end of its range has another one in the next study with
nothing changed. So a verdict has a margin: how far its interval would have to move for another word, in half-widths of
the interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.claims.comparison import recorded_studies, recorded_words
from repro.claims.findings import Finding, judged, undecided
from repro.claims.ledger import Claim, Criterion, SubClaim
from repro.claims.reading import load_ledger
from repro.claims.verdicts import read_verdicts, read_words

BORDERLINE = 0.5
"""Margins under this are borderline. The estimates of two studies differ with a standard deviation of sqrt(2) / 1.96 of
a half-width, so that a repetition moves an interval by half a half-width, in the direction that matters, in one case of
four."""

Studies = Mapping[str, Mapping[tuple[str, str], str]]
"""The words of other machines' studies: by machine, then by claim and sub-claim."""


@dataclass(frozen=True)
class Firmness:
    """`margin` in half-widths, None where no interval decides; `same` of `studies` other studies have our word."""

    margin: float | None
    same: int
    studies: int

    @property
    def borderline(self) -> bool:
        """Whether the margin is small, or a study of another machine has another word."""
        return self.same < self.studies or (self.margin is not None and self.margin < BORDERLINE)

    def __str__(self) -> str:
        """'0.2 half-widths from another verdict, the same word on 2 of 2 other machines'."""
        parts = [] if self.margin is None else [f"{self.margin:.1f} half-widths from another verdict"]
        if self.studies:
            parts.append(f"the same word on {self.same} of {self.studies} other machine{'s' * (self.studies != 1)}")
        return ", ".join(parts)


def margin(criterion: Criterion, low: float, high: float) -> float:
    """The least distance that [low, high], low < high, would have to move for another verdict, in half-widths of it."""
    ends = [end for end in (criterion.at_least, criterion.at_most) if end is not None]
    # The verdict changes only where an end of the interval passes an end of the range.
    shifts = sorted((end - edge for end in ends for edge in (low, high)), key=abs)
    now, half = criterion.verdict(low, high), (high - low) / 2
    nudge = 1e-9 * max(map(abs, (low, high, *ends)))
    return next(
        abs(shift) / half
        for shift in shifts
        if any(criterion.verdict(low + moved, high + moved) is not now for moved in (shift - nudge, shift + nudge))
    )


def firmness(claim: Claim, subclaim: SubClaim, finding: Finding, studies: Studies) -> Firmness:
    """How firm a finding's verdict is; a study without a word on the sub-claim does not count."""
    there = [words[claim.id, subclaim.id] for words in studies.values() if (claim.id, subclaim.id) in words]
    decides = not undecided(claim, subclaim, finding) and finding.low < finding.high
    return Firmness(
        margin(subclaim.criterion, finding.low, finding.high) if decides else None,
        there.count(finding.word),
        len(there),
    )


def other_studies(profile: str, findings: Sequence[Finding]) -> Studies:
    """The words of other machines' studies of a profile, by today's criteria, beside findings made here.

    A study has no word on what it did not measure, on what needs no runs, on what it found to the last digit as here
    (the same computation is no repetition), and, where only its words are kept, on what was written or changed since.
    """
    here = {(one.claim, one.subclaim): one for one in findings if one.n}
    studies = {}
    for machine, path in recorded_studies(profile).items():
        there = {(one.claim, one.subclaim): one for one in judged_again(profile, path) if one.estimate is not None}
        studies[machine] = {key: one.word for key, one in there.items() if key in here and not _same(here[key], one)}
    parts = _parts()
    for machine, path in recorded_words(profile).items():
        written, words = read_words(profile, path)
        studies[machine] = {
            key: words[key]
            for key, (claim, part) in parts.items()
            if key in words
            and key in here
            and all(day <= written for day in (claim.written, *(change.date for change in part.changed)))
        }
    return studies


def judged_again(profile: str, path: Path) -> list[Finding]:
    """Another machine's findings of today's sub-claims, with verdicts by today's criteria.

    A sub-claim that has another title today is another one: it compares other arms, or measures something else.
    """
    parts = _parts()
    there = ((parts.get((one.claim, one.subclaim)), one) for one in read_verdicts(profile, path))
    return [judged(*part, one) for part, one in there if part and part[1].title == one.title]


def _parts() -> dict[tuple[str, str], tuple[Claim, SubClaim]]:
    return {(claim.id, part.id): (claim, part) for claim in load_ledger().claims for part in claim.subclaims}


def _same(first: Finding, second: Finding) -> bool:
    return (first.estimate, first.low, first.high) == (second.estimate, second.low, second.high)
