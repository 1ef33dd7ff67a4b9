"""Findings of a claim as a table to show, and what stands behind a verdict in it."""

from collections.abc import Sequence

import pandas as pd

from repro.claims.borderline import Studies, firmness
from repro.claims.findings import Finding
from repro.claims.ledger import Claim, Kind, SubClaim, Verdict


def remarks(claim: Claim, finding: Finding, studies: Studies) -> list[str]:
    """What a reader has to know of a verdict beside its word, in the order of weight.

    That it is the claim's primary, or does not count and why; whether we agree with the paper's text or with its figure
    where those differ; and how near it is to another word if that is near.
    """
    part = claim.part(finding.subclaim)
    said = ["primary"] if part.id == claim.primary else []
    if not part.counts:
        said.append(f"not counted: {left_out(claim, part)}")
    said += [side(part, finding)] if part.plotted is not None else []
    firm = firmness(claim, part, finding, studies)
    return [*said, f"borderline: {firm}"] if firm.borderline else said


def left_out(claim: Claim, part: SubClaim) -> str:
    """Why a sub-claim that does not count does not."""
    if part.follows:
        return f'it fails with "{claim.part(part.follows).title}"'
    return part.untestable or "an identity of mathematics, which checks the code"


def side(part: SubClaim, finding: Finding) -> str:
    """Whether we agree with the paper's text or with its figure, whose number lies outside the range of the text."""
    if finding.verdict is Verdict.UNDERPOWERED:
        return "the paper's figure fails its text, and this does not decide between them"
    if finding.verdict is Verdict.REPRODUCED:
        return "with the paper's text, against its figure"
    ends = part.criterion
    below = ends.at_least is not None and part.plotted < ends.at_least
    ours_below = ends.at_least is not None and finding.high < ends.at_least
    return "with the paper's figure, against its text" if below == ours_below else "neither its text nor its figure"


def table(claim: Claim, findings: Sequence[Finding], studies: Studies) -> pd.DataFrame:
    """Findings of a claim, or of an open question, as a table to show: a row per sub-claim."""
    expected = "Predicted" if claim.kind is Kind.QUESTION else "Reproduced if"
    rows = []
    for finding in findings:
        said = [*([finding.note] if finding.note else []), *remarks(claim, finding, studies)]
        rows.append(
            {
                "Sub-claim": finding.title,
                "Paper": finding.printed_as,
                "Ours (95 % interval)": finding.ours,
                "n": finding.n,
                expected: finding.criterion,
                "Verdict": f"{finding.word} ({'; '.join(said)})" if said else finding.word,
            }
        )
    return pd.DataFrame(rows)
