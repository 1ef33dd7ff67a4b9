"""Two studies side by side: is what they found of each sub-claim compatible?

Words of verdicts cannot tell. An interval that ends near the end of its criterion has another word on another machine
with nothing changed. The question is whether the difference of two estimates is one that chance gives, and its interval
says so by holding 0:

- Student's t interval of the paired differences, where both studies have values for two seeds or more in common: a seed
  fixes the problems and their order, so two runs of one seed are not independent;
- Welch's t interval, where both have values by seed, but of other seeds;
- the interval of a difference that two intervals imply, where a measure pools its seeds (`implied_difference`).

At a level of 95 %, one in twenty differences is expected to miss 0 by chance alone. `Comparisons` counts them, and asks
for each whether it misses 0 at the level that makes a single false alarm among all of them as rare as 5 % (Bonferroni).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from repro.analysis.intervals import LEVEL, Interval, implied_difference, t_interval, welch_interval
from repro.claims.findings import Finding, measure_profile
from repro.claims.words import spell_interval
from repro.paths import results_dir

# Numbers that need no runs agree up to the rounding of sums in another order.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Comparison:
    """One sub-claim in two studies.

    `difference` is second minus first, in the ledger's unit, None where one study has no interval. `clear` is whether
    it misses 0 even at the level that allows for all comparisons made. `note` says what kept the two from being
    compared, or that they are the same.
    """

    first: Finding
    second: Finding
    difference: Interval | None
    clear: bool
    note: str

    @property
    def compatible(self) -> bool | None:
        """Whether chance alone gives such a difference; None where there is nothing to tell by."""
        if self.difference is None:
            return None
        return self.difference.low <= 0 <= self.difference.high

    @property
    def word(self) -> str:
        """'yes', 'no', 'clearly not', or the note."""
        if self.compatible is None or self.note:
            return self.note
        return "yes" if self.compatible else "clearly not" if self.clear else "no"


@dataclass(frozen=True)
class Comparisons:
    """All sub-claims that two studies have, in the first's order."""

    rows: tuple[Comparison, ...]

    @property
    def compared(self) -> list[Comparison]:
        """Those that chance could tell apart: with intervals, and not the same to the last digit."""
        return [one for one in self.rows if one.difference and not one.note]

    @property
    def apart(self) -> list[Comparison]:
        """Those whose difference misses 0."""
        return [one for one in self.rows if one.compatible is False]

    @property
    def clear(self) -> list[Comparison]:
        """Those of `apart` that chance does not explain, even among so many."""
        return [one for one in self.rows if one.clear]

    def summary(self) -> str:
        """Counts, and how many differences chance alone is expected to give, in a few sentences."""
        same = sum(bool(one.difference and one.note) for one in self.rows)
        open_ = len(self.rows) - same - len(self.compared)
        apart, chance = len(self.apart), (1 - LEVEL) * len(self.compared)
        clear = [f"{one.first.claim}.{one.first.subclaim}" for one in self.clear]
        return (
            f"{len(self.rows)} sub-claims: {same} the same in both, {open_} without an interval in one of them, and "
            f"{len(self.compared)} compared at {100 * LEVEL:g} %, of which {apart} differ, where {chance:.1f} would by "
            f"chance. Allowing for so many, {', '.join(clear) or 'none'} {'differ' if len(clear) > 1 else 'differs'}."
        )

    def table(self, first: str, second: str, rows: Sequence[Comparison] | None = None) -> pd.DataFrame:
        """A row per sub-claim to show, all or some, with the names of the two studies over their columns."""
        return pd.DataFrame(
            [
                {
                    "Sub-claim": f"{one.first.claim}: {one.first.title}",
                    first: one.first.ours,
                    second: one.second.ours,
                    "Difference": spell_interval(*one.difference[:3], one.first.unit) if one.difference else "",
                    "Compatible": one.word,
                }
                for one in (self.rows if rows is None else rows)
            ]
        )


def compare(first: Sequence[Finding], second: Sequence[Finding]) -> Comparisons:
    """Every sub-claim that both studies have, compared."""
    there = {(one.claim, one.subclaim): one for one in second}
    pairs = [(one, there[one.claim, one.subclaim]) for one in first if (one.claim, one.subclaim) in there]
    tries = sum(_note(*pair) == "" for pair in pairs)
    return Comparisons(tuple(_compare(*pair, tries) for pair in pairs))


def compare_with_records(profile: str) -> Comparisons:
    """The study that comes with the repository, and what the runs made on this machine say.

    Raises:
        ReproError: a run that one of the two lacks.
    """
    return compare(measure_profile(profile, made=False), measure_profile(profile, recorded=False))


def _compare(first: Finding, second: Finding, tries: int) -> Comparison:
    note = _note(first, second)
    if first.low is None or second.low is None:
        return Comparison(first, second, None, False, note)
    if first.n == second.n == 0:
        gap = second.estimate - first.estimate if not note else 0.0
        return Comparison(first, second, Interval(gap, gap, gap, 0, LEVEL), not note, note)
    strict = _difference(first, second, 1 - (1 - LEVEL) / max(1, tries))
    return Comparison(first, second, _difference(first, second, LEVEL), not strict.low <= 0 <= strict.high, note)


def _note(first: Finding, second: Finding) -> str:
    """Why two findings leave nothing to compare; empty where they do not."""
    if None in (first.estimate, second.estimate):
        return "not measured in both"
    if None in (first.low, second.low):
        return "no interval in both"
    ends = zip((first.estimate, first.low, first.high), (second.estimate, second.low, second.high), strict=True)
    rounding = 0.0 if first.n or second.n else _ROUNDING
    return "the same" if all(math.isclose(*pair, rel_tol=rounding, abs_tol=rounding) for pair in ends) else ""


def _difference(first: Finding, second: Finding, level: float) -> Interval:
    """Second minus first, in the way that fits what the two have."""
    by_seed = [dict(zip(one.seeds, one.values, strict=False)) for one in (first, second)]
    shared = sorted(set(by_seed[0]) & set(by_seed[1]))
    if len(shared) > 1:
        return t_interval([by_seed[1][seed] - by_seed[0][seed] for seed in shared], level)
    if all(len(values) > 1 for values in by_seed):
        return welch_interval(second.values, first.values, level)
    return implied_difference(
        *(Interval(one.estimate, one.low, one.high, one.n, LEVEL) for one in (second, first)), level
    )


def recorded_studies(profile: str) -> dict[str, Path]:
    """Verdicts of this profile's study as other machines found them, committed in the repository, by machine."""
    return _of_machines(f"verdicts_{profile}.json")


def recorded_words(profile: str) -> dict[str, Path]:
    """Studies of this profile of which only the words of the verdicts are kept, by machine."""
    return _of_machines(f"words_{profile}.json")


def _of_machines(name: str) -> dict[str, Path]:
    return {path.parent.name: path for path in sorted(results_dir().glob(f"machines/*/{name}"))}
