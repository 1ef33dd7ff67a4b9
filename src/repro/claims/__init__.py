"""The claims ledger, what is measured of runs for each claim, and the verdicts that follow.

Data flows one way: `load_ledger` reads `configs/claims/`, `measure` turns the runs that a claim names into findings
(estimate, interval, verdict), `claim_verdict` sums them up, `write_verdicts` stores them beside the built book and
`check_verdicts` holds them against the verdicts recorded in the ledger.

The functions registered in `measures` are the only ones the ledger may name.
"""

from repro.claims.curves import ACCURACY, ENTROPY, accuracy_curve, entropy_curve, level_at, level_at_step
from repro.claims.errors import ClaimError, NoEffect
from repro.claims.findings import LEVEL, Finding, claim_verdict, describe, measure, measure_profile, table
from repro.claims.ledger import Claim, Criterion, Kind, Ledger, SubClaim, Verdict
from repro.claims.measures import MEASURES
from repro.claims.measures.collapse import entropy_left, entropy_share, gain_share, late_gain
from repro.claims.reading import load_ledger
from repro.claims.verdicts import check_verdicts, read_verdicts, verdicts_path, write_verdicts
from repro.claims.words import spell, spell_interval

__all__ = [
    "ACCURACY",
    "ENTROPY",
    "LEVEL",
    "MEASURES",
    "Claim",
    "ClaimError",
    "Criterion",
    "Finding",
    "Kind",
    "Ledger",
    "NoEffect",
    "SubClaim",
    "Verdict",
    "accuracy_curve",
    "check_verdicts",
    "claim_verdict",
    "describe",
    "entropy_curve",
    "entropy_left",
    "entropy_share",
    "gain_share",
    "late_gain",
    "level_at",
    "level_at_step",
    "load_ledger",
    "measure",
    "measure_profile",
    "read_verdicts",
    "spell",
    "spell_interval",
    "table",
    "verdicts_path",
    "write_verdicts",
]
