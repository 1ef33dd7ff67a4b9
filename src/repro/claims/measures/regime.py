"""The regime of a testbed: what the ledger's gates ask of plain GRPO before any other arm is run."""

from repro.claims.curves import end_level, level_at
from repro.claims.measures.covariance import TABLE_1, top_mean
from repro.claims.measures.fixes import pass_at
from repro.claims.registry import per_seed
from repro.runs import Run


@per_seed
def first_level(run: Run, *, quantity: str) -> float:
    """A quantity of `repro.claims.curves` before training, in its own unit."""
    return level_at(run, quantity, 0, window=1)


@per_seed
def last_level(run: Run, *, quantity: str, window: float) -> float:
    """A quantity of `repro.claims.curves` at the end of training, in its own unit."""
    return end_level(run, quantity, window)


@per_seed
def room(run: Run, *, k: int) -> float:
    """pass@k less accuracy in the last evaluation, as a fraction: solutions that are found, and not yet every time."""
    return pass_at(run, k) - pass_at(run, 1)


@per_seed
def top_over_paper(run: Run, *, fraction: float) -> float:
    """Mean covariance of a fraction of tokens with the largest at the first step, over the paper's of Table 1."""
    return top_mean(run, fraction) / TABLE_1[fraction]
