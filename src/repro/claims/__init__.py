"""The claims ledger, what is measured of runs for each claim, and the verdicts that follow.

Data flows one way: `load_ledger` reads `configs/claims/`, `measure` turns the runs that a claim names into findings
(estimate, interval, verdict), `headline` sums them up, `firmness` says how near they are to another verdict,
`write_verdicts` stores them beside the built book and `check_verdicts` holds them against the verdicts recorded in the
ledger.

The functions that `repro.claims.measures` registers are the only ones the ledger may name.
"""

from repro.claims import measures as _measures  # noqa: F401 - registers the measures
from repro.claims.answered import answered, answering, answers
from repro.claims.borderline import Firmness, Studies, firmness, judged_again, other_studies
from repro.claims.comparison import (
    Comparisons,
    compare,
    compare_with_records,
    recorded_studies,
    recorded_words,
)
from repro.claims.curves import ACCURACY, ENTROPY
from repro.claims.errors import ClaimError, NoEffect
from repro.claims.findings import Finding, measure, measure_profile
from repro.claims.headline import Headline, headline
from repro.claims.ledger import Claim, Criterion, Kind, Ledger, Paper, SubClaim, Verdict
from repro.claims.reading import load_ledger
from repro.claims.registry import MEASURES
from repro.claims.tables import left_out, remarks, table
from repro.claims.verdicts import check_verdicts, read_verdicts, read_words, verdicts_path, write_verdicts
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
    "Firmness",
    "Headline",
    "Kind",
    "Ledger",
    "NoEffect",
    "Paper",
    "Studies",
    "SubClaim",
    "Verdict",
    "answered",
    "answering",
    "answers",
    "check_verdicts",
    "compare",
    "compare_with_records",
    "firmness",
    "headline",
    "judged_again",
    "left_out",
    "load_ledger",
    "measure",
    "measure_profile",
    "other_studies",
    "read_verdicts",
    "read_words",
    "recorded_studies",
    "recorded_words",
    "remarks",
    "spell",
    "spell_interval",
    "spell_seeds",
    "table",
    "verdicts_path",
    "write_verdicts",
]
