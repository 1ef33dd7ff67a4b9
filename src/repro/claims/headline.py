"""What is said of a claim as a whole: the verdict on its primary sub-claim, and the tally of the others.

A trial names one primary outcome before it starts, so that nobody adds up verdicts of unequal weight, or picks the one
that pleases. The tally counts the other sub-claims, but for those that say nothing of their own: identities of
mathematics, which check the code; what the testbed has no means to test; and what fails whenever a sibling does.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from repro.claims.errors import ClaimError
from repro.claims.findings import Finding
from repro.claims.ledger import Claim, Verdict


@dataclass(frozen=True)
class Headline:
    """The primary finding of a claim, and those of the other sub-claims that count, in the ledger's order."""

    primary: Finding
    others: tuple[Finding, ...]

    @property
    def word(self) -> str:
        """The primary's verdict in words."""
        return self.primary.word

    @property
    def tally(self) -> str:
        """How many of the others have which verdict: '5 reproduced, 1 underpowered'; empty without others."""
        counts = Counter(finding.verdict for finding in self.others)
        return ", ".join(f"{counts[one]} {one.word(self.primary.kind)}" for one in Verdict if counts[one])

    def __str__(self) -> str:
        """Both: 'reproduced (primary); others: 5 reproduced, 1 underpowered'."""
        return f"{self.word} (primary)" + (f"; others: {self.tally}" if self.others else "")


def headline(claim: Claim, findings: Sequence[Finding]) -> Headline:
    """The headline of a claim from the findings of its sub-claims; those of other claims are ignored.

    Raises:
        ClaimError: the primary sub-claim has no finding.
    """
    mine = {finding.subclaim: finding for finding in findings if finding.claim == claim.id}
    if claim.primary not in mine:
        raise ClaimError(f"{claim.id}: no finding of its primary sub-claim {claim.primary!r}; measure the whole claim")
    others = [part.id for part in claim.subclaims if part.counts and part.id != claim.primary]
    return Headline(mine[claim.primary], tuple(mine[name] for name in others if name in mine))
