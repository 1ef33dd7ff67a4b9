"""Which column of a log is the step, the entropy and the score, and what is behind it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from repro.audit.readers import AuditError

# For columns that no entry of columns.yaml knows: words of the name, and words that make it something else.
WORDS = {
    "entropy": (r"entropy", r"cross|coef|bonus|target|max|min|std|grad"),
    "score": (
        r"acc|accuracy|score|reward|success|solved|pass@\d+",
        r"max|min|std|var|length|coef|zero|groups?|loss|kl",
    ),
}


@dataclass(frozen=True)
class Column:
    """A column of a log in its role: `step`, `entropy`, `score`, `groups` or `truncation`.

    `means` says what it holds, for an entropy which estimator, and that it is unknown where it is.
    """

    role: str
    name: str
    means: str


def recognise(names: Sequence[str], chosen: Mapping[str, str | None]) -> dict[str, list[Column]]:
    """The columns of each role, the most wanted first; those in `chosen` (role to name) are taken as they are.

    Raises:
        AuditError: a chosen column that is not there, or two that are as good as each other.
    """
    return {role: _candidates(role, names, chosen.get(role)) for role in known()}


@cache
def known() -> Mapping[str, Sequence[Mapping[str, str]]]:
    """The entries of columns.yaml by role."""
    return yaml.safe_load(resources.files("repro.audit").joinpath("columns.yaml").read_text(encoding="utf-8"))


def _candidates(role: str, names: Sequence[str], chosen: str | None) -> list[Column]:
    if chosen is not None:
        if chosen not in names:
            raise AuditError(f"there is no column {chosen!r} for --{role}; the log has {listed(names)}")
        names = [chosen]
    found: list[Column] = []
    for entry in known()[role]:
        if "beside" in entry and not any(re.fullmatch(entry["beside"], _own(name)) for name in names):
            continue
        matches = [name for name in names if re.fullmatch(entry["name"], _own(name))]
        if len(matches) > 1 and not found:
            raise AuditError(f"{listed(matches)} could each be the {role}; choose with --{role} NAME")
        found += [Column(role, name, entry["means"]) for name in matches if len(matches) == 1]
    if found or role not in WORDS:
        return found or ([Column(role, chosen, "as named")] if chosen else [])
    word, other = WORDS[role]
    means = "estimator unknown" if role == "entropy" else "as logged"
    if chosen:
        return [Column(role, chosen, means)]
    parts = {name: re.split(r"[^a-z0-9@]+", _own(name).lower()) for name in names}
    matches = [name for name in names if any(re.fullmatch(word, part) for part in parts[name])]
    matches = [name for name in matches if not any(re.fullmatch(other, part) for part in parts[name])]
    if len(matches) > 1:
        raise AuditError(f"{listed(matches)} could each be the {role}; choose with --{role} NAME")
    return [Column(role, name, means) for name in matches]


def _own(name: str) -> str:
    """A name without the "RUN - " that exports of charts put before it."""
    return name.rpartition(" - ")[2]


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names for a message: '`a`, `b` and 3 more'."""
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
