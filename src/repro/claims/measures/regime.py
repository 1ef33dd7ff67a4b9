"""Is a testbed in the paper's regime? What plain GRPO starts with, ends with and leaves to be found.

These are conditions that a testbed was chosen by, on plain GRPO alone, before any other arm was trained on it.
"""

from repro.claims.curves import end_level, level_at
from repro.claims.measures.covariance import top_mean
from repro.claims.measures.fixes import pass_at
from repro.claims.registry import per_seed
from repro.runs import Run


@per_seed
def start(run: Run, *, quantity: str) -> float:
    """A quantity of `repro.claims.curves` of the base policy, in its unit."""
    return level_at(run, quantity, 0, 0)


@per_seed
def end(run: Run, *, quantity: str, window: float) -> float:
    """A quantity of `repro.claims.curves` over the last `window` of training, in its unit."""
    return end_level(run, quantity, window)


@per_seed
def room(run: Run, *, k: int) -> float:
    """pass@k of the last evaluation less its accuracy, as a fraction: what sampling finds and the policy misses."""
    return pass_at(run, k) - pass_at(run, 1)


@per_seed
def top_covariance(run: Run, *, fraction: float) -> float:
    """Mean covariance of the top fraction of tokens at step 1, in nats, as in the paper's Table 1."""
    return top_mean(run, fraction)
