"""Ways of writing a solution: the mixture that a base policy is trained on.

Each strategy announces itself by its first letter, writes some of the running totals and then ``=`` and its answer:

==========  =====================  ===========================================
strategy    of ``7+3*4-2:``        what limits it
==========  =====================  ===========================================
``step``    ``s008=8``             nothing: every step is one operation
``pair``    ``p08=8``              two operations at once, for the policy to do in one step
``guess``   ``g=8``                the whole chain at once
==========  =====================  ===========================================

On top of what a policy can compute, a strategy slips: each written total is replaced by a wrong one with probability
``slip``, and the chain goes on from the wrong total, as a person's would.
"""

import random
from dataclasses import dataclass

from repro.errors import ConfigError
from repro.tasks.arithmetic.chains import ANSWER_MARK, MODULUS, Problem, apply


@dataclass(frozen=True)
class Strategy:
    """A way to write solutions.

    Args:
        mark: its first letter.
        stride: operations per written total; 0 writes the answer alone.
        prior: its share of the mixture.
        slip: probability that a written total is wrong.
        limit: operations that it works out, the answer being the total there; None for all of them.
    """

    mark: str
    stride: int
    prior: float
    slip: float
    limit: int | None = None

    def solution(self, problem: Problem, rng: random.Random, *, clean: bool = False) -> str:
        """A solution as text; ``clean`` leaves slips out."""
        operations = problem.operations[: self.limit]
        stride = self.stride or len(operations)
        total, written = problem.first, []
        for start in range(0, len(operations), stride):
            for operator, operand in operations[start : start + stride]:
                total = apply(total, operator, operand)
            if not clean and rng.random() < self.slip:
                total = (total + rng.randrange(1, MODULUS)) % MODULUS
            written.append(str(total))
        working = "".join(written) if self.stride else ""
        return f"{self.mark}{working}{ANSWER_MARK}{written[-1]}"


@dataclass(frozen=True)
class Mixture:
    """Strategies with prior masses that sum to one.

    Raises:
        ConfigError: when they do not.
    """

    strategies: tuple[Strategy, ...]

    def __post_init__(self) -> None:
        mass = sum(strategy.prior for strategy in self.strategies)
        if abs(mass - 1) > 1e-9:
            raise ConfigError(f"the strategies' priors sum to {mass}, not 1: change one of them")

    def draw(self, rng: random.Random, *, clean: bool = False) -> Strategy:
        """A strategy: by prior mass, or evenly where ``clean`` (the first stage teaches them all)."""
        weights = [1.0 if clean else strategy.prior for strategy in self.strategies]
        return rng.choices(self.strategies, weights)[0]


STANDARD = Mixture(
    (
        Strategy("s", stride=1, prior=0.02, slip=0.35),
        Strategy("p", stride=2, prior=0.38, slip=0.15),
        Strategy("g", stride=0, prior=0.60, slip=0.30),
    )
)

# The common strategy stops after five operations and is wrong on longer chains, however well it is carried out. The
# reliable one is rare and at first worse: only a policy that keeps trying it finds out how good it gets with practice.
EXPLORE = Mixture(
    (
        Strategy("s", stride=1, prior=0.02, slip=0.35),
        Strategy("p", stride=2, prior=0.38, slip=0.15, limit=5),
        Strategy("g", stride=0, prior=0.60, slip=0.30),
    )
)

# There is nothing to explore: one strategy, whose slips are all there is to lose.
SINGLE = Mixture((Strategy("p", stride=2, prior=1.0, slip=0.25),))

MIXTURES = {"standard": STANDARD, "explore": EXPLORE, "single": SINGLE}
