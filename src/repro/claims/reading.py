"""Reading the claims ledger: YAML in, checked entries out, with every complaint naming file, entry and value."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from repro import paths
from repro.claims.errors import ClaimError
from repro.claims.ledger import Claim, Criterion, Kind, Ledger, SubClaim, Verdict
from repro.claims.registry import MEASURES, Measure

# Parts of a run or of its tokens, wherever a measure takes them.
_PARTS = ("fraction", "window")
_PAPER = "paper.yaml"


@dataclass
class _Entry:
    """A mapping of the ledger being read: hands out fields once each, naming the place in every complaint."""

    where: str
    content: Any
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not isinstance(self.content, dict):
            raise ClaimError(f"{self.where}: expected a mapping, got {self.content!r}")

    def take(
        self, key: str, kind: type | tuple[type, ...] = str, *, optional: bool = False, empty: bool = False
    ) -> Any:
        """The value of a field; None where an optional one is not there."""
        self.taken.add(key)
        if optional and key not in self.content:
            return None
        if key not in self.content:
            raise ClaimError(f"{self.where}: {key!r} is missing")
        value = self.content[key]
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join("null" if one is type(None) else one.__name__ for one in kinds)
            raise ClaimError(f"{self.where}: {key} must be {names}, got {value!r}")
        if isinstance(value, str) and not value.strip() and not empty:
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


def _recorded(entry: _Entry, kind: Kind) -> dict[str, Verdict]:
    verdicts = {verdict.word(kind): verdict for verdict in Verdict}
    recorded = {}
    for profile, word in entry.take("recorded", dict).items():
        if word not in verdicts:
            raise ClaimError(f"{entry.where}: recorded.{profile} must be one of {', '.join(verdicts)}, got {word!r}")
        recorded[profile] = verdicts[word]
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


def _measure(entry: _Entry) -> Measure:
    name = entry.take("measure")
    if name not in MEASURES:
        raise ClaimError(f"{entry.where}: no measure called {name!r} (known: {', '.join(MEASURES)})")
    return MEASURES[name]


def _arms(entry: _Entry, measure: Measure, claim_arm: str | None) -> tuple[str, ...]:
    arms = entry.take("arms", list, optional=True)
    if arms is None and claim_arm is None:
        raise ClaimError(f"{entry.where}: 'arms' is missing, and the claim has no 'arm' to take in its place")
    arms = [claim_arm] if arms is None else arms
    for arm in arms:
        if not isinstance(arm, str) or not arm.strip():
            raise ClaimError(f"{entry.where}: arms must be names, got {arm!r}")
    _unique(entry.where, "arm", arms)
    if measure.arms is not None and measure.arms != len(arms):
        raise ClaimError(f"{entry.where}: {measure.name} takes {measure.arms} arms, got {', '.join(arms) or 'none'}")
    if not arms and not measure.pooled:
        raise ClaimError(f"{entry.where}: {measure.name} is measured per seed and needs at least one arm")
    return tuple(arms)


def _arguments(entry: _Entry, measure: Measure) -> dict[str, float | str]:
    content = entry.take("arguments", dict)
    known = measure.arguments
    required = {name for name, parameter in known.items() if parameter.default is parameter.empty}
    if not required <= set(content) <= set(known):
        wanted, got = ", ".join(sorted(known)) or "none", ", ".join(sorted(map(str, content))) or "none"
        raise ClaimError(f"{entry.where}: {measure.name} takes the arguments {wanted}; got {got}")
    arguments = {
        key: _argument(f"{entry.where}: arguments.{key}", value, known[key].annotation)
        for key, value in content.items()
    }
    for key in set(arguments) & set(_PARTS):
        if not 0 < arguments[key] < 1:
            raise ClaimError(f"{entry.where}: arguments.{key} must lie between 0 and 1, got {arguments[key]:g}")
    if arguments.get("minimum", 1) <= 0:
        raise ClaimError(f"{entry.where}: arguments.minimum must be positive, got {arguments['minimum']:g}")
    return arguments


def _argument(where: str, value: object, kind: type) -> float | str:
    """A value of the type that the measure's parameter is annotated with."""
    if kind is float:
        return _number(where, value)
    if type(value) is not kind:
        raise ClaimError(f"{where}: must be {'an integer' if kind is int else 'text'}, got {value!r}")
    return value


def _subclaim(entry: _Entry, kind: Kind, claim_arm: str | None) -> SubClaim:
    printed = entry.take("printed", (int, float, type(None)))
    measure = _measure(entry)
    subclaim = SubClaim(
        id=entry.take("id"),
        title=entry.take("title"),
        source=entry.take("source"),
        printed=None if printed is None else float(printed),
        printed_as=entry.take("printed_as"),
        measure=measure.name,
        arms=_arms(entry, measure, claim_arm),
        arguments=_arguments(entry, measure),
        unit=entry.take("unit", empty=True),
        criterion=_criterion(entry.entry("criterion")),
        reason=entry.take("reason"),
        figure=entry.take("figure", optional=True),
        recorded=_recorded(entry, kind),
    )
    entry.close()
    if Verdict.PARTLY in subclaim.recorded.values():
        raise ClaimError(f"{entry.where}: a sub-claim cannot be recorded as partly, only a whole claim can")
    return subclaim


def _claim(entry: _Entry) -> Claim:
    parts = entry.take("subclaims", list)
    kind = _kind(entry)
    arm = entry.take("arm", optional=True)
    claim = Claim(
        id=entry.take("id"),
        number=entry.take("number", int),
        kind=kind,
        title=entry.take("title"),
        statement=entry.take("statement"),
        source=entry.take("source"),
        page=entry.take("page"),
        arm=arm,
        minimum_seeds=entry.take("minimum_seeds", int),
        written=entry.take("written", date),
        reasoning=entry.take("reasoning"),
        recorded=_recorded(entry, kind),
        subclaims=tuple(
            _subclaim(_Entry(_place(entry.where, part, i), part), kind, arm) for i, part in enumerate(parts)
        ),
    )
    entry.close()
    if claim.minimum_seeds < 2:
        raise ClaimError(f"{entry.where}: minimum_seeds must be at least 2, got {claim.minimum_seeds}")
    if not claim.subclaims:
        raise ClaimError(f"{entry.where}: subclaims is empty")
    _unique(entry.where, "sub-claim", [part.id for part in claim.subclaims])
    return claim


def _kind(entry: _Entry) -> Kind:
    kind = entry.take("kind", optional=True) or Kind.CLAIM
    if kind not in list(Kind):
        raise ClaimError(f"{entry.where}: kind must be {' or '.join(Kind)}, got {kind!r}")
    return Kind(kind)


def _place(where: str, content: object, index: int) -> str:
    """Where a list's item stands: its id if it has one, else its position counted from 1."""
    return f"{where}: {content['id'] if isinstance(content, dict) and 'id' in content else f'entry {index + 1}'}"


def _unique(where: str, what: str, ids: Sequence[str]) -> None:
    for one in ids:
        if ids.count(one) > 1:
            raise ClaimError(f"{where}: {what} {one!r} appears more than once")


@cache
def _project_ledger() -> Ledger:
    return load_ledger(paths.configs_dir() / "claims")


def load_ledger(folder: Path | None = None) -> Ledger:
    """Read and validate the claims ledger: `paper.yaml`, and the claims of all other files in the order of their names.

    Args:
        folder: holds the YAML files; `configs/claims/` of the project, which is read once, if None.

    Raises:
        ClaimError: a file is missing, is not YAML, or holds a field that is missing, unknown, of the wrong type or
            out of range; the message names the file, the entry, the value and what is allowed.
    """
    if folder is None:
        return _project_ledger()
    top = _Entry(_PAPER, _read(folder / _PAPER))
    paper = top.entry("paper")
    known = {key: paper.take(key) for key in ("key", "version")}
    paper.close()
    top.close()
    claims = [claim for path in sorted(folder.glob("*.yaml")) if path.name != _PAPER for claim in _claims(path)]
    if not claims:
        raise ClaimError(f"{folder}: no claims; they stand in files such as 01_collapse.yaml")
    _unique(str(folder), "claim", [claim.id for claim in claims])
    return Ledger(known, tuple(claims))


def _claims(path: Path) -> list[Claim]:
    top = _Entry(path.name, _read(path))
    entries = top.take("claims", list)
    top.close()
    return [_claim(_Entry(_place(path.name, one, i), one)) for i, one in enumerate(entries)]


def _read(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ClaimError(f"{path}: cannot read the claims ledger ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ClaimError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
