"""From runs to findings: what the runs of a profile say about each sub-claim."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from repro.analysis.intervals import over_seeds
from repro.claims.answered import answered
from repro.claims.errors import ClaimError, NoEffect
from repro.claims.ledger import Claim, Kind, Ledger, SubClaim, Verdict
from repro.claims.reading import load_ledger
from repro.claims.registry import MEASURES
from repro.claims.words import spell, spell_interval
from repro.runs import Run, load
from repro.runs.profiles import load_profile


@dataclass(frozen=True)
class Finding:
    """What the runs of one profile say about one sub-claim.

    `n` counts the seeds that went into the estimate: those that all arms have where the measure pairs them, the fewest
    of any arm where it pools them, and 0 where it needs no runs or there are none of some arm. `values` has one number
    per seed, in the order of `seeds`, and is empty for pooled measures. It is None for a seed whose run has nothing to
    measure, and then there is no `estimate` either. `low` and `high` are None too in that case, and with one seed.
    `bases` counts the base policies of the arm with the fewest, 0 as `n` is. `note` says why a finding is underpowered
    and is empty for the others.
    """

    claim: str
    kind: Kind
    subclaim: str
    title: str
    printed: float | None
    printed_as: str
    estimate: float | None
    low: float | None
    high: float | None
    n: int
    unit: str
    criterion: str
    verdict: Verdict
    note: str
    seeds: tuple[int, ...]
    values: tuple[float | None, ...]
    bases: int = 1

    @property
    def ours(self) -> str:
        """Estimate and interval for a table cell: '71 % (66 to 76 %)'; an exact number stands alone."""
        if self.n == 0 and self.estimate is None:
            return "not run"
        if self.n == 0 and self.low == self.high == self.estimate:
            return spell(self.estimate, self.unit)
        return spell_interval(self.estimate, self.low, self.high, self.unit)

    @property
    def word(self) -> str:
        """The verdict in words: 'reproduced', or 'as predicted' for an open question."""
        return self.verdict.word(self.kind)


@dataclass(frozen=True)
class _Measured:
    """What a measure gave; `note` says why there is less than an estimate with its interval."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    seeds: tuple[int, ...] = ()
    values: tuple[float | None, ...] = ()
    note: str = ""


def measure(claim: Claim, runs: Iterable[Run]) -> list[Finding]:
    """Findings for every sub-claim of `claim`, from the runs of the arms that it names; other runs are ignored.

    A measure per seed gives the mean over the seeds that all its arms have, with its 95 % Student t interval; a pooled
    measure gives its own interval. A sub-claim is underpowered where an arm has no runs, where a run has nothing to
    measure, and where there are fewer than the `minimum_seeds` of the sub-claim, or else of the claim (unless it needs
    no runs), or than the sub-claim's `minimum_bases`.

    Raises:
        ClaimError: two runs of one arm and seed, runs of one arm that differ in more than the seed, a record that lacks
            a column or holds a value that is not a number, or a measure that does not give one.
    """
    chosen = [run for run in runs if run.config.arm in claim.arms]
    arms = {arm: _comparable(claim, arm, chosen) for arm in claim.arms}
    return [_finding(claim, subclaim, [arms[arm] for arm in subclaim.arms]) for subclaim in claim.subclaims]


def _comparable(claim: Claim, arm: str, runs: Iterable[Run]) -> list[Run]:
    """The runs of an arm in the order of their seeds, which must differ in nothing but the seed and the base."""
    chosen = sorted((run for run in runs if run.config.arm == arm), key=lambda run: run.config.seed)
    for first, second in itertools.pairwise(chosen):
        if first.config.seed == second.config.seed:
            raise ClaimError(f"claim {claim.id!r}: {first.name} and {second.name} have the same seed")
        if second.config.replace(seed=first.config.seed, base=first.config.base) != first.config:
            raise ClaimError(
                f"claim {claim.id!r}: {first.name} and {second.name} differ in more than the seed and cannot be pooled"
            )
    return chosen


def _finding(claim: Claim, subclaim: SubClaim, groups: Sequence[Sequence[Run]]) -> Finding:
    missing = [arm for arm, runs in zip(subclaim.arms, groups, strict=True) if not runs]
    if missing:
        found = _Measured(note=f"profile has no runs of arm {' and '.join(missing)}")
    elif MEASURES[subclaim.measure].pooled:
        found = _pooled(claim, subclaim, groups)
    else:
        found = _per_seed(claim, subclaim, groups)
    finding = Finding(
        claim=claim.id,
        kind=claim.kind,
        subclaim=subclaim.id,
        title=subclaim.title,
        printed=subclaim.printed,
        printed_as=subclaim.printed_as,
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        n=found.n,
        unit=subclaim.unit,
        criterion=subclaim.criterion.text(subclaim.unit),
        verdict=Verdict.UNDERPOWERED,
        note=found.note,
        seeds=found.seeds,
        values=found.values,
        bases=min((len({run.config.base for run in runs}) for runs in groups), default=0),
    )
    return judged(claim, subclaim, finding)


def judged(claim: Claim, subclaim: SubClaim, finding: Finding) -> Finding:
    """A finding with the verdict that the ledger's criterion gives its interval, and the note that belongs to it.

    Made here or read from another study: a verdict by an older criterion is replaced.
    """
    verdict, note = Verdict.UNDERPOWERED, undecided(claim, subclaim, finding)
    if not note:
        verdict = subclaim.criterion.verdict(finding.low, finding.high)
        if verdict is Verdict.UNDERPOWERED:
            note = "the interval straddles the end of the range"
    criterion = subclaim.criterion.text(subclaim.unit)
    return dataclasses.replace(finding, verdict=verdict, note=note, criterion=criterion)


def undecided(claim: Claim, subclaim: SubClaim, finding: Finding) -> str:
    """Why a finding is underpowered wherever its interval lies; empty where its interval decides."""
    if finding.estimate is None:
        return finding.note
    needed = subclaim.minimum_seeds or claim.minimum_seeds
    if subclaim.arms and finding.n < needed:
        return f"{finding.n} of at least {needed} seeds"
    if subclaim.minimum_bases and finding.bases < subclaim.minimum_bases:
        return f"{finding.bases} of at least {subclaim.minimum_bases} base policies an arm"
    return "no interval" if finding.low is None else ""


def _per_seed(claim: Claim, subclaim: SubClaim, groups: Sequence[Sequence[Run]]) -> _Measured:
    function = MEASURES[subclaim.measure].function
    by_seed = [{run.config.seed: run for run in runs} for runs in groups]
    seeds = tuple(sorted(set.intersection(*map(set, by_seed))))
    values: list[float | None] = []
    missing = []
    for seed in seeds:
        try:
            value = function(*(runs[seed] for runs in by_seed), **subclaim.arguments)
            values.append(_finite(claim, subclaim, value, f"seed {seed}"))
        except NoEffect as reason:
            values.append(None)
            missing.append(f"seed {seed}: {reason}")
    found = _Measured(n=len(seeds), seeds=seeds, values=tuple(values))
    if not seeds:
        return dataclasses.replace(found, note=f"no seed that {' and '.join(subclaim.arms)} share")
    if missing:
        # Seeds without an effect cannot be dropped: those that remain would be selected by their outcome.
        return dataclasses.replace(found, note="no effect to measure (" + "; ".join(missing) + ")")
    estimate, low, high, _, _ = over_seeds(values)
    return dataclasses.replace(found, estimate=estimate, low=low, high=high)


def _pooled(claim: Claim, subclaim: SubClaim, groups: Sequence[Sequence[Run]]) -> _Measured:
    seeds = tuple(sorted({run.config.seed for runs in groups for run in runs}))
    found = _Measured(n=min(map(len, groups), default=0), seeds=seeds)
    where = "the runs of " + " and ".join(subclaim.arms) if subclaim.arms else "no runs"
    try:
        interval = MEASURES[subclaim.measure].function(*groups, **subclaim.arguments)
    except NoEffect as reason:
        return dataclasses.replace(found, note=f"no effect to measure ({reason})")
    estimate = _finite(claim, subclaim, interval.estimate, where)
    # A measure leaves both ends out where its runs are too few to give any.
    if interval.low is None and interval.high is None:
        return dataclasses.replace(found, estimate=estimate)
    low, high = (_finite(claim, subclaim, end, where) for end in (interval.low, interval.high))
    return dataclasses.replace(found, estimate=estimate, low=low, high=high)


def _finite(claim: Claim, subclaim: SubClaim, value: Any, where: str) -> float:
    """The value as a float, or a ClaimError saying what gave it."""
    if value is None or not math.isfinite(value):
        raise ClaimError(
            f"{claim.id}.{subclaim.id}: measure {subclaim.measure} gave {value} for {where}; it must give a finite "
            "number, or raise NoEffect where there is nothing to measure"
        )
    return float(value)


def measure_profile(
    profile: str, ledger: Ledger | None = None, *, made: bool = True, recorded: bool = True
) -> list[Finding]:
    """Findings for every claim that a profile answers, from its recorded runs; nothing is trained, each is read once.

    Args:
        profile: its name.
        ledger: the project's if None.
        made: read the runs made on this machine.
        recorded: read the runs that come with the repository, where this machine has not made them again. Those that
            the profile only shows are always read so.

    Raises:
        ReproError: an unknown profile, or a run that is missing, damaged or made by older code.
    """
    ledger = ledger or load_ledger()
    loaded = load_profile(profile)
    entries = answered(loaded, ledger)
    needed = dict.fromkeys(arm for claim in entries for arm in claim.arms)
    recorded_of = {arm: recorded or loaded.arms[arm].shown is not None for arm in needed}
    runs = {
        arm: [load(config, made=made, recorded=allowed) for config in loaded.configs(arm)]
        for arm, allowed in recorded_of.items()
    }
    return [
        finding for claim in entries for finding in measure(claim, [run for arm in claim.arms for run in runs[arm]])
    ]
