"""What one could change after an audit, with who says so and what our own runs say of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from repro.audit.core import Audit
from repro.claims import load_ledger


@dataclass(frozen=True)
class Advice:
    """A change, its source, and the verdicts of our ledger that speak for or against it, a line each."""

    do: str
    source: str
    evidence: tuple[str, ...]


def advise(found: Audit) -> list[Advice]:
    """What the verdicts of an audit call for."""
    verdicts = {answer.question: answer.verdict for answer in found.answers}
    called = [one for one in entries() if any(verdicts.get(key) in words for key, words in one["when"].items())]
    return [Advice(one["do"], one["source"], tuple(map(_spoken, one["evidence"]))) for one in called]


@cache
def entries() -> Sequence[dict]:
    """The entries of advice.yaml."""
    return yaml.safe_load(resources.files("repro.audit").joinpath("advice.yaml").read_text(encoding="utf-8"))


def _spoken(reference: str) -> str:
    """A sub-claim of the ledger with its verdicts, as 'Title: reproduced (cpu)'."""
    claim_id, _, part_id = reference.partition("/")
    part = next(part for part in _ledger().claim(claim_id).subclaims if part.id == part_id)
    words = ", ".join(f"{word} ({profile})" for profile, word in part.recorded.items())
    return f"{part.title}: {words or 'no verdict yet'}"


_ledger = cache(load_ledger)
