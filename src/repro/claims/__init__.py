"""The claims ledger, what is measured of runs for each claim, and the verdicts that follow.

Data flows one way: `load_ledger` reads `configs/claims.yaml`, `measure` turns the runs of one claim into findings
(estimate, interval, verdict), `claim_verdict` sums them up, `write_verdicts` stores them beside the built book and
`check_verdicts` holds them against the verdicts recorded in the ledger.

The functions listed in `MEASURES` are the only ones the ledger may name. Each takes a run and returns one number for
it, or raises `NoEffect` when the run has nothing to take a share of.
"""

import dataclasses
import inspect
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from repro import paths
from repro.errors import ReproError
from repro.ops.stats import stretch_mean, t_interval
from repro.profiles import load_profile
from repro.runs import Run, load

ENTROPY = "entropy/response_mean"
ACCURACY = "accuracy/mean"
LEVEL = 0.95


class ClaimError(ReproError):
    """A ledger that cannot be read, runs that cannot be measured, or verdicts that moved."""


class NoEffect(Exception):
    """A run has nothing to take a share of; the message says what was missing."""


class Verdict(StrEnum):
    """What the runs say about a claim; `PARTLY` is for whole claims only."""

    REPRODUCED = "reproduced"
    PARTLY = "partly"
    NOT_REPRODUCED = "not reproduced"
    UNDERPOWERED = "underpowered"


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
    """One measurable part of a claim, as the ledger states it."""

    id: str
    title: str
    source: str
    printed: float | None
    printed_as: str
    measure: str
    arguments: Mapping[str, float]
    unit: str
    criterion: Criterion
    reason: str
    recorded: Mapping[str, Verdict]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, as the ledger states it."""

    id: str
    number: int
    title: str
    statement: str
    source: str
    page: str
    arm: str
    minimum_seeds: int
    written: date
    reasoning: str
    recorded: Mapping[str, Verdict]
    subclaims: tuple[SubClaim, ...]


@dataclass(frozen=True)
class Ledger:
    """All claims, in the order of the file."""

    paper: Mapping[str, str]
    claims: tuple[Claim, ...]

    def claim(self, claim_id: str) -> Claim:
        """The claim called `claim_id`, or a ClaimError naming the known ones."""
        for claim in self.claims:
            if claim.id == claim_id:
                return claim
        known = ", ".join(claim.id for claim in self.claims)
        raise ClaimError(f"no claim called {claim_id!r} in the ledger (known: {known})")


@dataclass(frozen=True)
class Finding:
    """What the runs of one profile say about one sub-claim.

    `values` has one number per run, in the order of `seeds`; None where the run has no effect to take a share of, and
    then there is no `estimate` either. `low` and `high` are None too in that case, and with one seed. `note` says why a
    finding is underpowered and is empty for the others.
    """

    claim: str
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

    @property
    def ours(self) -> str:
        """Estimate and interval for a table cell: '71 % (66 to 76 %)'."""
        return spell_interval(self.estimate, self.low, self.high, self.unit)


def _column(run: Run, frame: pd.DataFrame, name: str) -> np.ndarray:
    """Column `name` of a run's table as float64, or a ClaimError if it is missing or not all numbers."""
    if name not in frame.columns:
        raise ClaimError(f"{run.name}: no column {name!r} (it has {', '.join(map(str, frame.columns))})")
    values = frame[name].to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        step = frame["step"].to_numpy()[~np.isfinite(values)][0]
        raise ClaimError(f"{run.name}: {name} is not a finite number at step {step}; redo the run")
    return values


def entropy_curve(run: Run) -> pd.DataFrame:
    """Entropy in nats by rollout: `step` (updates made, averaged over the rollout's updates) and `entropy`.

    `entropy/response_mean` (the paper's Eq. 5) is averaged over the updates made with one rollout, which together see
    each of its responses once. Row s of the metrics is measured before update s, hence at s - 1 updates made.
    """
    made = run.metrics["step"].to_numpy() - 1
    table = pd.DataFrame(
        {
            "rollout": made // run.config.updates_per_rollout,
            "step": made.astype(np.float64),
            "entropy": _column(run, run.metrics, ENTROPY),
        }
    )
    return table.groupby("rollout").mean().reset_index(drop=True)


def accuracy_curve(run: Run) -> pd.DataFrame:
    """Validation accuracy as a fraction, by evaluation: `step` (updates made) and `accuracy` (mean@k)."""
    return pd.DataFrame(
        {
            "step": run.evaluations["step"].to_numpy(dtype=np.float64),
            "accuracy": _column(run, run.evaluations, ACCURACY),
        }
    )


def level_at(run: Run, quantity: str, fraction: float, window: float) -> float:
    """`quantity` ('entropy' in nats or 'accuracy' as a fraction) of a run at `fraction` of training.

    It is the mean of the piecewise-linear curve over a stretch `window` long (both as fractions of training) around
    that point, moved inside the run where it would reach over an end. At 0 it is the first point itself: the base
    policy is a state of its own, and what follows it is already training.
    """
    curve = {"entropy": entropy_curve, "accuracy": accuracy_curve}[quantity](run)
    if fraction == 0:
        return float(curve[quantity].iloc[0])
    low = min(max(fraction - window / 2, 0), 1 - window)
    steps = run.config.steps
    return stretch_mean(curve["step"], curve[quantity], low * steps, (low + window) * steps)


def entropy_share(run: Run, *, fraction: float, window: float, minimum: float) -> float:
    """Share of the run's whole fall of entropy that is over at `fraction` of training: (H0 - Hf) / (H0 - H1).

    Raises `NoEffect` if the whole fall H0 - H1 is under `minimum` nats.
    """
    start, there, end = (level_at(run, "entropy", point, window) for point in (0, fraction, 1))
    if start - end < minimum:
        raise NoEffect(f"entropy fell by {start - end:.3f} nat, less than {minimum:g}")
    return (start - there) / (start - end)


def gain_share(run: Run, *, fraction: float, window: float, minimum: float) -> float:
    """Share of the run's whole gain of accuracy that is there at `fraction` of training: (Rf - R0) / (R1 - R0).

    Raises `NoEffect` if the whole gain R1 - R0 is under `minimum`.
    """
    start, there, end = (level_at(run, "accuracy", point, window) for point in (0, fraction, 1))
    if end - start < minimum:
        raise NoEffect(f"accuracy gained {end - start:.3f}, less than {minimum:g}")
    return (there - start) / (end - start)


def late_gain(run: Run, *, fraction: float, window: float, minimum: float) -> float:
    """Share of the run's whole gain of accuracy that the last `fraction` of training adds.

    Raises `NoEffect` if the whole gain is under `minimum`.
    """
    return 1 - gain_share(run, fraction=1 - fraction, window=window, minimum=minimum)


def entropy_left(run: Run, *, window: float) -> float:
    """Entropy at the end of training as a share of the base policy's.

    Raises `NoEffect` if the base policy has no entropy.
    """
    start = level_at(run, "entropy", 0, window)
    if start <= 0:
        raise NoEffect(f"the base policy's entropy is {start:.3f} nat")
    return level_at(run, "entropy", 1, window) / start


MEASURES: dict[str, Callable[..., float]] = {
    function.__name__: function for function in (entropy_share, gain_share, late_gain, entropy_left)
}


def _comparable(claim: Claim, runs: Iterable[Run]) -> list[Run]:
    """The runs of the claim's arm in the order of their seeds, which must differ in nothing but the seed."""
    chosen = sorted((run for run in runs if run.config.arm == claim.arm), key=lambda run: run.config.seed)
    if not chosen:
        raise ClaimError(f"claim {claim.id!r} needs runs of arm {claim.arm!r} and was given none")
    for first, second in itertools.pairwise(chosen):
        if first.config.seed == second.config.seed:
            raise ClaimError(f"claim {claim.id!r}: {first.name} and {second.name} have the same seed")
        if dataclasses.replace(second.config, seed=first.config.seed) != first.config:
            raise ClaimError(
                f"claim {claim.id!r}: {first.name} and {second.name} differ in more than the seed and cannot be pooled"
            )
    return chosen


def _finding(claim: Claim, subclaim: SubClaim, runs: Sequence[Run]) -> Finding:
    function = MEASURES[subclaim.measure]
    values: list[float | None] = []
    missing = []
    for run in runs:
        try:
            values.append(function(run, **subclaim.arguments))
        except NoEffect as reason:
            values.append(None)
            missing.append(f"seed {run.config.seed}: {reason}")
    estimate = low = high = None
    verdict, note = Verdict.UNDERPOWERED, ""
    if missing:
        # Seeds without an effect cannot be dropped: those that remain would be selected by their outcome.
        note = "no effect to take a share of (" + "; ".join(missing) + ")"
    else:
        estimate = float(np.mean(values))
        if len(values) > 1:
            _, low, high, _, _ = t_interval(values, LEVEL)
        if len(values) < claim.minimum_seeds:
            note = f"{len(values)} of at least {claim.minimum_seeds} seeds"
        else:
            verdict = subclaim.criterion.verdict(low, high)
            if verdict is Verdict.UNDERPOWERED:
                note = "the interval straddles the end of the range"
    return Finding(
        claim=claim.id,
        subclaim=subclaim.id,
        title=subclaim.title,
        printed=subclaim.printed,
        printed_as=subclaim.printed_as,
        estimate=estimate,
        low=low,
        high=high,
        n=len(runs),
        unit=subclaim.unit,
        criterion=subclaim.criterion.text(subclaim.unit),
        verdict=verdict,
        note=note,
        seeds=tuple(run.config.seed for run in runs),
        values=tuple(values),
    )


def measure(claim: Claim, runs: Iterable[Run]) -> list[Finding]:
    """Findings for every sub-claim of `claim`: mean over seeds with its 95 % Student t interval, and the verdict.

    Runs of other arms are ignored.

    Raises:
        ClaimError: no run of the claim's arm, two runs of one seed, runs that differ in more than the seed, or a
            record that lacks a column or holds a value that is not a number.
    """
    chosen = _comparable(claim, runs)
    return [_finding(claim, subclaim, chosen) for subclaim in claim.subclaims]


def claim_verdict(findings: Sequence[Finding]) -> Verdict:
    """The verdict on a whole claim from the findings of its sub-claims.

    If every sub-claim is decided: reproduced when all are, not reproduced when none is, partly when they differ.
    An underpowered sub-claim could come out either way. The claim is underpowered if that could still change its
    verdict, and otherwise has the verdict that every outcome would give. So one underpowered sub-claim keeps a claim
    from being reproduced, or not reproduced; but a claim with one sub-claim of each kind is partly, whatever the rest.

    Raises:
        ValueError: no findings.
    """
    if not findings:
        raise ValueError("a claim needs at least one finding")
    verdicts = {finding.verdict for finding in findings}
    if {Verdict.REPRODUCED, Verdict.NOT_REPRODUCED} <= verdicts:
        return Verdict.PARTLY
    if Verdict.UNDERPOWERED in verdicts:
        return Verdict.UNDERPOWERED
    return verdicts.pop()


Level = tuple[tuple[float, float | None, float | None], str]


def describe(runs: Sequence[Run], *, window: float = 1 / 24) -> dict[str, Level]:
    """Levels behind the shares, by name: ((mean over seeds, low, high), unit); low and high are None with one run.

    Names: `entropy_start` and `entropy_end` in nats, `accuracy_start`, `accuracy_end` and `accuracy_gain` as fractions.
    The end is the mean over the last `window` of training.
    """
    values = {
        f"{quantity}_{name}": np.array([level_at(run, quantity, point, window) for run in runs])
        for quantity in ("entropy", "accuracy")
        for name, point in (("start", 0), ("end", 1))
    }
    values["accuracy_gain"] = values["accuracy_end"] - values["accuracy_start"]
    return {
        name: (
            t_interval(sample, LEVEL)[:3] if len(sample) > 1 else (float(sample[0]), None, None),
            "nat" if name.startswith("entropy") else "share",
        )
        for name, sample in values.items()
    }


def measure_profile(profile: str, ledger: Ledger | None = None) -> list[Finding]:
    """Findings for every claim from the recorded runs of a profile; nothing is trained.

    Raises:
        ReproError: an unknown profile, or a run that is missing, damaged or made by older code.
    """
    ledger = ledger or load_ledger()
    loaded = load_profile(profile)
    findings = []
    for claim in ledger.claims:
        findings += measure(claim, [load(config) for config in loaded.configs(claim.arm)])
    return findings


def spell(value: float, unit: str) -> str:
    """A value in the ledger's unit: shares as whole per cents ('73 %'), anything else to three figures ('0.52 nat')."""
    return f"{round(100 * value)} %" if unit == "share" else f"{value:.3g} {unit}"


def spell_interval(estimate: float | None, low: float | None, high: float | None, unit: str) -> str:
    """An estimate with its interval: '71 % (66 to 76 %)', '71 % (no interval)' or 'no effect'."""
    if estimate is None:
        return "no effect"
    if low is None or high is None:
        return f"{spell(estimate, unit)} (no interval)"
    tail = spell(high, unit)
    head = spell(low, unit).removesuffix(" " + tail.rpartition(" ")[2])
    return f"{spell(estimate, unit)} ({head} to {tail})"


def table(findings: Sequence[Finding]) -> pd.DataFrame:
    """Findings as a table to show: a row per sub-claim."""
    rows = [
        {
            "Sub-claim": finding.title,
            "Paper": finding.printed_as,
            "Ours (95 % interval)": finding.ours,
            "n": finding.n,
            "Reproduced if": finding.criterion,
            "Verdict": f"{finding.verdict} ({finding.note})" if finding.note else str(finding.verdict),
        }
        for finding in findings
    ]
    return pd.DataFrame(rows)


def verdicts_path(profile: str) -> Path:
    """Where the verdicts of a profile are stored."""
    return paths.build_dir() / profile / "verdicts.json"


def write_verdicts(profile: str, findings: Sequence[Finding]) -> Path:
    """Write findings and claim verdicts as JSON, atomically, and return the path.

    Same findings give the same bytes: there is no time in the file.
    """
    path = verdicts_path(profile)
    claims = {one.claim: claim_verdict([each for each in findings if each.claim == one.claim]) for one in findings}
    content = {
        "profile": profile,
        "claims": claims,
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
        try:
            json.dump(content, file, indent=1, allow_nan=False)
            file.write("\n")
            file.close()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    return path


# What JSON does not keep of a finding's types.
_STORED_KINDS = {"verdict": Verdict, "seeds": tuple, "values": tuple}


def read_verdicts(profile: str) -> list[Finding]:
    """The findings stored by `write_verdicts`.

    Raises:
        ClaimError: the file is missing or is not one that `write_verdicts` made.
    """
    path = verdicts_path(profile)
    remedy = f"make them with `make reproduce PROFILE={profile}`"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return [
            Finding(**row | {key: kind(row[key]) for key, kind in _STORED_KINDS.items()}) for row in content["findings"]
        ]
    except FileNotFoundError:
        raise ClaimError(f"{path}: no verdicts for profile {profile!r}; {remedy}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ClaimError(f"{path}: not a verdicts file ({error}); {remedy}") from error


def check_verdicts(profile: str, findings: Sequence[Finding] | None = None, ledger: Ledger | None = None) -> None:
    """Hold computed verdicts against those recorded in the ledger for `profile`.

    Args:
        profile: name of the profile.
        findings: computed findings; those stored by `write_verdicts` if None.
        ledger: the ledger of the project if None.

    Raises:
        ClaimError: names every verdict that moved, that is not recorded, or that was not computed.
    """
    findings = read_verdicts(profile) if findings is None else findings
    ledger = load_ledger() if ledger is None else ledger
    moved = []
    for claim in ledger.claims:
        mine = [finding for finding in findings if finding.claim == claim.id]
        computed = {finding.subclaim: finding.verdict for finding in mine}
        pairs = [(f"{claim.id}.{part.id}", part.recorded, computed.get(part.id)) for part in claim.subclaims]
        pairs.append((claim.id, claim.recorded, claim_verdict(mine) if mine else None))
        for name, recorded, verdict in pairs:
            if recorded.get(profile) != verdict:
                moved.append(f"{name}: recorded {recorded.get(profile, 'nothing')}, computed {verdict or 'nothing'}")
    if moved:
        raise ClaimError(
            f"verdicts of profile {profile!r}: {len(moved)} differ from configs/claims.yaml ({'; '.join(moved)}); "
            "find out why, then record what the runs say"
        )


@dataclass
class _Entry:
    """A mapping of the ledger being read: hands out fields once each, naming the place in every complaint."""

    where: str
    content: Any
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not isinstance(self.content, dict):
            raise ClaimError(f"{self.where}: expected a mapping, got {self.content!r}")

    def take(self, key: str, kind: type | tuple[type, ...] = str) -> Any:
        self.taken.add(key)
        if key not in self.content:
            raise ClaimError(f"{self.where}: {key!r} is missing")
        value = self.content[key]
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join("null" if one is type(None) else one.__name__ for one in kinds)
            raise ClaimError(f"{self.where}: {key} must be {names}, got {value!r}")
        if isinstance(value, str) and not value.strip():
            raise ClaimError(f"{self.where}: {key} is empty")
        return value

    def entry(self, key: str) -> "_Entry":
        return _Entry(f"{self.where}: {key}", self.take(key, dict))

    def close(self) -> None:
        unknown = sorted(map(str, set(self.content) - self.taken))
        if unknown:
            known = ", ".join(sorted(self.taken))
            raise ClaimError(f"{self.where}: unknown field {', '.join(unknown)} (known: {known})")


def _number(where: str, value: object) -> float:
    """A number, or a fraction such as '1/12' written as text."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(Fraction(value))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ClaimError(f"{where}: must be a number or a fraction such as 1/12, got {value!r}") from None
    return number


def _recorded(entry: _Entry) -> dict[str, Verdict]:
    recorded = {}
    for profile, verdict in entry.take("recorded", dict).items():
        try:
            recorded[profile] = Verdict(verdict)
        except ValueError:
            known = ", ".join(Verdict)
            raise ClaimError(f"{entry.where}: recorded.{profile} must be one of {known}, got {verdict!r}") from None
    return recorded


def _criterion(entry: _Entry) -> Criterion:
    ends = {}
    for key in ("at_least", "at_most"):
        if key in entry.content:
            ends[key] = _number(f"{entry.where}.{key}", entry.take(key, (int, float, str)))
        entry.taken.add(key)
    entry.close()
    criterion = Criterion(**ends)
    if not ends:
        raise ClaimError(f"{entry.where}: needs at_least, at_most or both")
    if len(ends) == 2 and ends["at_least"] > ends["at_most"]:
        raise ClaimError(f"{entry.where}: at_least {ends['at_least']:g} is above at_most {ends['at_most']:g}")
    return criterion


def _arguments(entry: _Entry, measure_name: str) -> dict[str, float]:
    content = entry.take("arguments", dict)
    if measure_name not in MEASURES:
        raise ClaimError(f"{entry.where}: no measure called {measure_name!r} (known: {', '.join(MEASURES)})")
    expected = set(inspect.signature(MEASURES[measure_name]).parameters) - {"run"}
    if set(content) != expected:
        wanted, got = ", ".join(sorted(expected)), ", ".join(sorted(map(str, content))) or "none"
        raise ClaimError(f"{entry.where}: {measure_name} takes the arguments {wanted}; got {got}")
    arguments = {key: _number(f"{entry.where}: arguments.{key}", value) for key, value in content.items()}
    for key in expected & {"fraction", "window"}:
        if not 0 < arguments[key] < 1:
            raise ClaimError(f"{entry.where}: arguments.{key} must lie between 0 and 1, got {arguments[key]:g}")
    if arguments.get("minimum", 1) <= 0:
        raise ClaimError(f"{entry.where}: arguments.minimum must be positive, got {arguments['minimum']:g}")
    return arguments


def _subclaim(entry: _Entry) -> SubClaim:
    printed = entry.take("printed", (int, float, type(None)))
    subclaim = SubClaim(
        id=entry.take("id"),
        title=entry.take("title"),
        source=entry.take("source"),
        printed=None if printed is None else float(printed),
        printed_as=entry.take("printed_as"),
        measure=entry.take("measure"),
        arguments=_arguments(entry, entry.take("measure")),
        unit=entry.take("unit"),
        criterion=_criterion(entry.entry("criterion")),
        reason=entry.take("reason"),
        recorded=_recorded(entry),
    )
    entry.close()
    if Verdict.PARTLY in subclaim.recorded.values():
        raise ClaimError(f"{entry.where}: a sub-claim cannot be recorded as partly, only a whole claim can")
    return subclaim


def _claim(entry: _Entry) -> Claim:
    parts = entry.take("subclaims", list)
    claim = Claim(
        id=entry.take("id"),
        number=entry.take("number", int),
        title=entry.take("title"),
        statement=entry.take("statement"),
        source=entry.take("source"),
        page=entry.take("page"),
        arm=entry.take("arm"),
        minimum_seeds=entry.take("minimum_seeds", int),
        written=entry.take("written", date),
        reasoning=entry.take("reasoning"),
        recorded=_recorded(entry),
        subclaims=tuple(_subclaim(_Entry(_place(entry.where, part, i), part)) for i, part in enumerate(parts)),
    )
    entry.close()
    if claim.minimum_seeds < 2:
        raise ClaimError(f"{entry.where}: minimum_seeds must be at least 2, got {claim.minimum_seeds}")
    if not claim.subclaims:
        raise ClaimError(f"{entry.where}: subclaims is empty")
    _unique(entry.where, "sub-claim", [part.id for part in claim.subclaims])
    return claim


def _place(where: str, content: object, index: int) -> str:
    """Where a list's item stands: its id if it has one, else its position counted from 1."""
    return f"{where}: {content['id'] if isinstance(content, dict) and 'id' in content else f'entry {index + 1}'}"


def _unique(where: str, what: str, ids: Sequence[str]) -> None:
    for one in ids:
        if ids.count(one) > 1:
            raise ClaimError(f"{where}: {what} {one!r} appears more than once")


def load_ledger(path: Path | None = None) -> Ledger:
    """Read and validate the claims ledger.

    Args:
        path: a YAML file; `configs/claims.yaml` of the project if None.

    Raises:
        ClaimError: the file is missing, is not YAML, or holds a field that is missing, unknown, of the wrong type or
            out of range; the message names the file, the entry, the value and what is allowed.
    """
    path = paths.configs_dir() / "claims.yaml" if path is None else Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClaimError(f"{path}: cannot read the claims ledger ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ClaimError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    top = _Entry(path.name, content)
    paper = top.entry("paper")
    known = {key: paper.take(key) for key in ("key", "version")}
    paper.close()
    entries = top.take("claims", list)
    top.close()
    claims = tuple(_claim(_Entry(_place(path.name, one, i), one)) for i, one in enumerate(entries))
    _unique(path.name, "claim", [claim.id for claim in claims])
    return Ledger(known, claims)
