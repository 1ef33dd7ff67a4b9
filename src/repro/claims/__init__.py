"""The claims ledger, what is measured of runs for each claim, and the verdicts that follow.

Data flows one way: `load_ledger` reads `configs/claims/`, `measure` turns the runs that a claim names into findings
(estimate, interval, verdict), `claim_verdict` sums them up, `write_verdicts` stores them beside the built book and
`check_verdicts` holds them against the verdicts recorded in the ledger.

The functions that `repro.claims.measures` registers are the only ones the ledger may name.
"""

from repro.claims import measures as _measures  # noqa: F401 - registers the measures
from repro.claims.comparison import Comparisons, compare, compare_with_records, recorded_studies
from repro.claims.curves import ACCURACY, ENTROPY
from repro.claims.errors import ClaimError, NoEffect
from repro.claims.findings import Finding, claim_verdict, measure, measure_profile, table, tally
from repro.claims.ledger import Claim, Criterion, Kind, Ledger, Paper, SubClaim, Verdict
from repro.claims.reading import load_ledger
from repro.claims.registry import MEASURES
from repro.claims.verdicts import check_verdicts, read_verdicts, verdicts_path, write_verdicts
from repro.claims.words import spell, spell_interval, spell_seeds

__all__ = [
    "ACCURACY",
    "ENTROPY",
    "MEASURES",
    "Claim",
    "ClaimError",
    "Comparisons",
    "Criterion",
    "Finding",
    "Kind",
    "Ledger",
    "NoEffect",
    "Paper",
    "SubClaim",
    "Verdict",
    "check_verdicts",
    "claim_verdict",
    "compare",
    "compare_with_records",
    "load_ledger",
    "measure",
    "measure_profile",
    "read_verdicts",
    "recorded_studies",
    "spell",
    "spell_interval",
    "spell_seeds",
    "table",
    "tally",
    "verdicts_path",
    "write_verdicts",
]
