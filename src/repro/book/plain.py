"""Verdicts in plain words: each claim's question, and the sentence that its primary finding calls for.

`book/_plain.yaml` has a sentence for every verdict that there can be, so that none can contradict the runs; the numbers
in it are the finding's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from repro import claims, paths
from repro.book import fragments
from repro.claims import Claim, Finding, Verdict
from repro.errors import ReproError

SOURCE = "_plain.yaml"


@dataclass(frozen=True)
class Words:
    """What is said of a claim: its question, and by primary sub-claim and verdict a sentence."""

    question: str
    sentences: Mapping[str, Mapping[str, str]]

    def answer(self, finding: Finding) -> str:
        """The sentence for the primary finding, with its numbers: `{ours}`, `{paper}`, `{n}` and `{asked}`."""
        by_verdict = self.sentences.get(finding.subclaim, {})
        sentence = by_verdict.get(finding.verdict, finding.title + ": {ours}, where the paper has {paper}.")
        return sentence.format(ours=finding.ours, paper=finding.printed_as, n=finding.n, asked=finding.criterion)


def read() -> dict[str, Words]:
    """The words by claim.

    Raises:
        ReproError: a sub-claim has sentences, but none for some verdict.
    """
    source = paths.root() / "book" / SOURCE
    found = {}
    for claim, entry in yaml.safe_load(source.read_text(encoding="utf-8")).items():
        question = entry.pop("question")
        for part, sentences in entry.items():
            if missing := set(Verdict) - set(sentences):
                raise ReproError(
                    f"{source}: {claim}.{part} has no sentence for {', '.join(sorted(missing))}; write one"
                )
        found[claim] = Words(question, entry)
    return found


def cards(entries: Sequence[Claim], findings: Sequence[Finding]) -> str:
    """The landing page's cards, in MyST: a claim each, with its question, its answer and the way to its page."""
    words = read()
    measured = {finding.claim for finding in findings}
    shown = [_card(claim, words[claim.id], findings) for claim in entries if claim.id in words.keys() & measured]
    return "\n".join(["::::{grid} 1 1 2 2", ":gutter: 3", "", *shown, "::::", ""])


def _card(claim: Claim, words: Words, findings: Sequence[Finding]) -> str:
    primary = claims.headline(claim, findings).primary
    lines = [
        ":::{grid-item-card}",
        f":class-card: verdict-card verdict-{primary.verdict.name.lower().replace('_', '-')}",
        f"**{claim.number}. {words.question}** {fragments.badge(primary.verdict, claim.kind)}",
        "",
        words.answer(primary),
        "",
        f"{{doc}}`The evidence and the doubts </{claim.page}>`",
        ":::",
        "",
    ]
    return "\n".join(lines)


def answer(claim: Claim, findings: Sequence[Finding]) -> str:
    """The answer at the top of a claim's page, in MyST: the verdict, the sentence, and how the others came out."""
    if not any(finding.claim == claim.id for finding in findings):
        return "This copy has no runs for it.\n"
    words = read()[claim.id]
    said = claims.headline(claim, findings)
    primary = said.primary
    seeds = f"n = {primary.n} seeds" if primary.n else "no runs needed"
    lines = [
        ":::{card}",
        f":class-card: verdict-card verdict-{primary.verdict.name.lower().replace('_', '-')}",
        f"{fragments.badge(primary.verdict, claim.kind)} {words.answer(primary)}",
        "",
        f"Measured: {primary.title}. Paper: {primary.printed_as}. Here: {primary.ours}, {seeds}. Asked for:"
        f" {primary.criterion}. The other sub-claims that count: {said.tally or 'none'}.",
        ":::",
        "",
    ]
    return "\n".join(lines)
