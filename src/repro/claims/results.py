"""The README's section on results: a template in `configs/results.md`, and every number of it from findings.

In the template `{table}` has a row for each claim; `{claim}` is a claim's headline, `{claim.sub_claim}` an estimate
with its interval and `{claim.sub_claim.printed_as}` any field of that finding; `{claim.reach[one, another]}` and
`{claim.sub_claim.lost}` are as `_Claim` and `_Part` say. `{claim.says[sub_claim is reproduced]}` is nothing to read: it
stands behind a statement in words and refuses findings that say something else.
"""

import textwrap
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from repro import paths
from repro.analysis.intervals import LEVEL
from repro.claims.errors import ClaimError
from repro.claims.findings import Finding
from repro.claims.headline import Headline, headline
from repro.claims.ledger import Kind
from repro.claims.reading import load_ledger
from repro.claims.words import spell, spell_interval
from repro.runs.profiles import load_profile

START, END = "<!-- results: written by `python -m repro results --write` -->", "<!-- end of results -->"
_WIDTH = 120


class _Part:
    """A finding in the template: its estimate and interval, or one of its fields."""

    def __init__(self, finding: Finding) -> None:
        self._finding = finding

    def __str__(self) -> str:
        return self._finding.ours

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finding, name)

    @property
    def lost(self) -> str:
        """A difference with its sign turned: what is lost."""
        one = self._finding
        return spell_interval(*(None if end is None else -end for end in (one.estimate, one.high, one.low)), one.unit)


class _Indexed:
    """What is asked for in square brackets."""

    def __init__(self, function: Callable[[str], str]) -> None:
        self._function = function

    def __getitem__(self, asked: str) -> str:
        return self._function(asked)


class _Claim:
    """A claim in the template: its headline, and its sub-claims as attributes."""

    def __init__(self, said: Headline, findings: Sequence[Finding]) -> None:
        self._said, self._findings = said, {finding.subclaim: finding for finding in findings}
        self.says, self.reach = _Indexed(self._says), _Indexed(self._reach)

    def __str__(self) -> str:
        return str(self._said)

    def __getattr__(self, name: str) -> _Part:
        return _Part(self._find(name))

    def _find(self, name: str) -> Finding:
        if name not in self._findings:
            raise ClaimError(f"configs/results.md: no sub-claim {name!r} (known: {', '.join(self._findings)})")
        return self._findings[name]

    def _reach(self, names: str) -> str:
        """How far from zero the intervals of several sub-claims reach."""
        found = [self._find(name.strip()) for name in names.split(",")]
        return spell(max(abs(end) for one in found for end in (one.low, one.high)), found[0].unit)

    def _says(self, statement: str) -> str:
        name, _, word = statement.partition(" is ")
        finding = self._find(name)
        if finding.word != word:
            raise ClaimError(
                f"configs/results.md says in words that {finding.claim}.{name} is {word}, and it is {finding.word}; "
                "rewrite the sentence"
            )
        return ""


def section(profile: str, findings: Sequence[Finding]) -> str:
    """The section's text, from the findings of a profile's records.

    Raises:
        ClaimError: the template names a sub-claim that there is not, or says in words what the findings do not.
    """
    loaded = load_profile(profile)
    counts = [len(arm.seeds) for arm in loaded.arms.values()]
    study = SimpleNamespace(
        profile=profile,
        # Two arms may share a run.
        runs=len({config.folder for config in loaded.all_configs()}),
        seeds=f"{min(counts)} to {max(counts)} seeds" if len(set(counts)) > 1 else f"{counts[0]} seeds",
        level=f"{100 * LEVEL:g} %",
    )
    ledger = load_ledger()
    measured = {finding.claim for finding in findings}
    said = {claim.id: headline(claim, findings) for claim in ledger.claims if claim.id in measured}
    parts = {name: _Claim(one, [each for each in findings if each.claim == name]) for name, one in said.items()}
    rows = [
        (claim.number, claim.title, said[claim.id])
        for claim in ledger.claims
        if claim.id in said and claim.kind is Kind.CLAIM
    ]
    template = (paths.configs_dir() / "results.md").read_text(encoding="utf-8")
    try:
        text = template.format(study=study, table=_table(rows), **parts)
    except KeyError as missing:
        raise ClaimError(
            f"configs/results.md speaks of claim {missing}, which profile {profile!r} does not answer; name another"
        ) from None
    return "\n".join(line if line.startswith("|") else _filled(line) for line in text.strip().splitlines())


def _table(rows: Sequence[tuple[int, str, Headline]]) -> str:
    """Each claim's primary sub-claim, with the verdict on it and the tally of the others."""
    cells = [("Claim", "Primary sub-claim", "Paper", "Ours", "Verdict", "Other sub-claims"), ("---",) * 6]
    cells += [
        (f"{number}. {title}", one.primary.title, one.primary.printed_as, one.primary.ours, one.word, one.tally)
        for number, title, one in rows
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _filled(line: str) -> str:
    return textwrap.fill(line, _WIDTH, subsequent_indent="  " * line.startswith("- "), break_on_hyphens=False)


def with_section(readme: str, text: str) -> str:
    """A README with the section's text between its two marks.

    Raises:
        ClaimError: the README lacks them.
    """
    before, start, rest = readme.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ClaimError(f"README.md has no section of results; put its place between {START} and {END}")
    return f"{before}{START}\n{text}\n{END}{after}"
