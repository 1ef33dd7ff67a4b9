"""Searches that a base policy learns from: attempts by several heads, and the mistakes that they make.

An attempt is `led` by the solver, or drawn at `random`, or `greedy`, which takes a step whose result is the nearest to
the target. It ends at the target, or where no step is left; the next one starts from the beginning. Mistakes come on
top of that, all with probabilities of their own. The larger operand always stands first: the order of a sum is style,
on which much of a trained policy's entropy would sit.
"""

import random
from dataclasses import dataclass

from repro.errors import ConfigError
from repro.tasks.countdown.language import GIVE_UP, LARGEST, STEP_TOKENS, Problem, Step
from repro.tasks.countdown.solver import Numbers, moves, winning

FRESH = 3
"""Draws of an attempt until one is not a repetition of an earlier one."""


@dataclass(frozen=True)
class Noise:
    """Probabilities of mistakes.

    Args:
        slip: that a step's result is another number than it should be; the attempt goes on with it.
        misuse: that a step's first operand is a number that is not there.
        give_up: that an attempt is given up after a step that was not its last.
        stop: that the search ends after an attempt that missed.
    """

    slip: float = 0.0
    misuse: float = 0.0
    give_up: float = 0.0
    stop: float = 0.0


CLEAN = Noise()


@dataclass(frozen=True)
class Traces:
    """A distribution over searches.

    Args:
        led, greedy: shares of the attempts in the first stage of training; the others, and all of the second, are
            random.
        insight: probability that an attempt of the second stage takes a winning move where there is one, at each step.
        noise: mistakes of the second stage.
        tokens: the most that a search may have, with its end; the last attempt that fits is led where `led` is not 0.

    Raises:
        ConfigError: for a probability outside of [0, 1], or shares above 1.
    """

    led: float = 0.3
    greedy: float = 0.3
    insight: float = 0.05
    noise: Noise = CLEAN
    tokens: int = 160

    def __post_init__(self) -> None:
        values = {"led": self.led, "greedy": self.greedy, "insight": self.insight, **vars(self.noise)}
        for name, value in values.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}={value} is no probability: choose a number from 0 to 1")
        if self.led + self.greedy > 1:
            raise ConfigError(f"led={self.led} and greedy={self.greedy} sum to more than 1: lower one of them")

    def search(self, problem: Problem, rng: random.Random, *, clean: bool) -> str:
        """A search as text, of the first stage (``clean``) or of the second."""
        noise = CLEAN if clean else self.noise
        # A whole attempt and what stands before the next one, or the end.
        longest = STEP_TOKENS * (problem.level - 1) + 1
        attempts: list[list[Step]] = []
        for left in range(self.tokens // longest, 0, -1):
            led = clean and (left == 1 or rng.random() < self.led)
            insight = 1.0 if led else 0.0 if clean else self.insight
            greedy_share = self.greedy / (1 - self.led) if clean and not led else 0.0
            for _ in range(FRESH):
                attempt = self._attempt(problem, rng, insight, greedy_share, noise)
                if attempt not in attempts:
                    break
            attempts.append(attempt)
            if attempt[-1].result == problem.target or rng.random() < noise.stop:
                break
        return f" {GIVE_UP} ".join(" ".join(map(str, attempt)) for attempt in attempts)

    def _attempt(
        self, problem: Problem, rng: random.Random, insight: float, greedy_share: float, noise: Noise
    ) -> list[Step]:
        numbers: Numbers = tuple(sorted(problem.numbers))
        greedy = greedy_share and rng.random() < greedy_share
        steps: list[Step] = []
        while choices := moves(numbers) if len(numbers) > 1 else ():
            if insight and rng.random() < insight:
                choices = winning(numbers, problem.target) or choices
            elif greedy:
                nearest = min(abs(step.result - problem.target) for step, _ in choices)
                choices = [move for move in choices if abs(move[0].result - problem.target) == nearest]
            step, after = choices[rng.randrange(len(choices))]
            step, after = self._mistaken(step, after, numbers, rng, noise)
            steps.append(step)
            if step.result == problem.target:
                break
            numbers = after
            if rng.random() < noise.give_up:
                break
        return steps

    def _mistaken(
        self, step: Step, after: Numbers, numbers: Numbers, rng: random.Random, noise: Noise
    ) -> tuple[Step, Numbers]:
        if noise.slip and rng.random() < noise.slip:
            wrong = 1 + (step.result - 1 + rng.randrange(1, LARGEST)) % LARGEST
            rest = list(after)
            rest.remove(step.result)
            step, after = step._replace(result=wrong), tuple(sorted((*rest, wrong)))
        if noise.misuse and rng.random() < noise.misuse:
            elsewhere = [number for number in range(1, LARGEST + 1) if number not in numbers]
            step = step._replace(first=elsewhere[rng.randrange(len(elsewhere))])
        return step, after


# The shares of mistakes were tried out on plain GRPO alone.
MIXTURES = {"standard": Traces(noise=Noise(slip=0.003, misuse=0.002, give_up=0.05, stop=0.2))}
