"""Exact softmax policies, small enough to enumerate: how entropy changes when logits do (arXiv:2505.22617, section 3).

One free logit z[s, a] per state and action, float64, entropies in nats. `lemma_1`, `proposition_1`, `theorem_1` and
`theorem_2` each return what the paper predicts to first order beside what happens exactly; the two meet as the step
goes to zero, and their difference is of second order in it.

What a language model has and the paper's lemmas leave out is here too:

1. An update changes which states are visited, not only what is done in them. On a `Tree`, whose states are prefixes and
   whose actions append a token, `entropy_change` gives that term beside Lemma 1's.
2. Proposition 1 takes an update of pi A in every state; the gradient of the expected return is d pi A, with the
   probability d of reaching the state. They agree on a bandit, which is a tree with one state.

The last part is a bandit whose entropy is held up by a bonus or by a penalty on the covariance, for the claim of
arXiv:2604.09676 that the first moves the fixed point and an annealed second does not.

Everything takes complex logits as well, so that `derivative` is exact to rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Change(NamedTuple):
    """A first-order prediction and the exact value, arrays of one shape."""

    predicted: np.ndarray
    exact: np.ndarray


def _table(name: str, values: ArrayLike) -> np.ndarray:
    """`values` [..., actions] as float64, or as complex128 where they are complex."""
    array = np.asarray(values)
    array = array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)
    if array.ndim < 1 or array.shape[-1] < 1:
        raise ValueError(f"{name} must have shape [..., actions] with at least one action, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array.tolist()}; leave out actions that cannot be taken")
    return array


def _alike(logits: ArrayLike, name: str, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    logits, values = _table("logits", logits), _table(name, values)
    if logits.shape != values.shape:
        raise ValueError(f"{name} must have the shape of the logits, {logits.shape}, got {values.shape}")
    return logits, values


def log_policy(logits: ArrayLike) -> np.ndarray:
    """log pi(a|s), [..., actions].

    Raises:
        ValueError: logits that are not finite, or no action.
    """
    logits = _table("logits", logits)
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def entropy(logits: ArrayLike) -> np.ndarray:
    """H(pi(.|s)) in nats, [...], from logits [..., actions].

    Raises:
        ValueError: as `log_policy`.
    """
    log_pi = log_policy(logits)
    return -(np.exp(log_pi) * log_pi).sum(axis=-1)


def covariance(logits: ArrayLike, x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """Cov_{a ~ pi(.|s)}(x(a), y(a)), [...], all arguments [..., actions].

    Raises:
        ValueError: values that are not finite, or shapes that differ.
    """
    logits, x = _alike(logits, "x", x)
    y = _alike(logits, "y", y)[1]
    pi = np.exp(log_policy(logits))
    return (pi * (x - (pi * x).sum(axis=-1, keepdims=True)) * y).sum(axis=-1)


def lemma_1(logits: ArrayLike, delta: ArrayLike) -> Change:
    """Change of each state's entropy when its logits move by delta: -Cov_{a ~ pi}(log pi(a|s), delta(s, a)).

    Args:
        logits, delta: [..., actions].

    Returns:
        Nats, [...]; `exact` is H(z + delta) - H(z).

    Raises:
        ValueError: values that are not finite, or shapes that differ.
    """
    logits, delta = _alike(logits, "delta", delta)
    return Change(-covariance(logits, log_policy(logits), delta), entropy(logits + delta) - entropy(logits))


def theorem_1(logits: ArrayLike, advantages: ArrayLike, step: float) -> Change:
    """Entropy change under the policy gradient, delta = step pi A: -step Cov_{a ~ pi}(log pi, pi A), nats, [...].

    Args:
        logits: [..., actions].
        advantages: A(s, a), [..., actions].
        step: learning rate.

    Raises:
        ValueError: values that are not finite, or shapes that differ.
    """
    logits, advantages = _alike(logits, "advantages", advantages)
    return lemma_1(logits, step * np.exp(log_policy(logits)) * advantages)


def theorem_2(logits: ArrayLike, advantages: ArrayLike, step: float) -> Change:
    """Entropy change under the natural policy gradient, delta = step A: -step Cov_{a ~ pi}(log pi, A), nats, [...].

    Arguments and errors are those of `theorem_1`. With discounting the natural gradient is A / (1 - gamma) (Agarwal et
    al. 2021, Lemma 15), a factor that the paper leaves out; a finite tree without discounting has none.
    """
    logits, advantages = _alike(logits, "advantages", advantages)
    return lemma_1(logits, step * advantages)


@dataclass(frozen=True, eq=False)
class Tree:
    """A finite tree of states, the whole of a small language: the root is the prompt, an action appends a token.

    Args:
        children: [states, actions] of integers; the state that an action leads to, or -1 where the response ends. State
            0 is the root, every other state is the child of one action of one state of a smaller number.
        rewards: [states, actions], paid when the action is taken.

    Raises:
        ValueError: shapes that differ, rewards that are not finite, or children that are no such tree.
    """

    children: np.ndarray
    rewards: np.ndarray

    def __post_init__(self) -> None:
        children, rewards = np.array(self.children), _table("rewards", self.rewards).copy()
        if children.ndim != 2 or children.shape != rewards.shape or not np.issubdtype(children.dtype, np.integer):
            raise ValueError(
                "children must be integers of the shape of the rewards, [states, actions]; got "
                f"{children.dtype} {children.shape} and {rewards.shape}"
            )
        states = np.arange(len(children))
        inner = children != -1
        if sorted(children[inner]) != states[1:].tolist() or (children <= states[:, None])[inner].any():
            raise ValueError(
                f"each state from 1 to {states[-1]} must be the child of one action of one state of a smaller number, "
                f"got {children.tolist()}; number the states from the root outwards"
            )
        for name, array in (("children", children), ("rewards", rewards)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def bandit(cls, rewards: ArrayLike) -> "Tree":
        """The tree with one state, and one action for each of the rewards [actions]."""
        rewards = _table("rewards", rewards)
        if rewards.ndim != 1:
            raise ValueError(f"a bandit has one state: rewards must have shape [actions], got {rewards.shape}")
        return cls(np.full((1, rewards.size), -1), rewards[None])

    def _checked(self, logits: ArrayLike) -> np.ndarray:
        logits = _table("logits", logits)
        if logits.shape != self.rewards.shape:
            raise ValueError(f"logits must have shape [states, actions] = {self.rewards.shape}, got {logits.shape}")
        return logits

    def log_reach(self, logits: ArrayLike) -> np.ndarray:
        """Logarithm of the probability that a response passes through each state, [states]."""
        log_pi = log_policy(self._checked(logits))
        log_reach = np.zeros(len(log_pi), dtype=log_pi.dtype)
        for state, children in enumerate(self.children):
            inner = children != -1
            log_reach[children[inner]] = log_reach[state] + log_pi[state, inner]
        return log_reach

    def visits(self, logits: ArrayLike) -> np.ndarray:
        """d_pi, the distribution of the states over all tokens of all responses: reach over its sum, [states]."""
        reach = np.exp(self.log_reach(logits))
        return reach / reach.sum()

    def advantages(self, logits: ArrayLike) -> np.ndarray:
        """A(s, a) = Q(s, a) - V(s), rewards undiscounted, [states, actions]."""
        values, action_values = self._values(logits)
        return action_values - values[:, None]

    def expected_return(self, logits: ArrayLike) -> complex | float:
        """J, the expected sum of the rewards of a response."""
        return self._values(logits)[0][0]

    def _values(self, logits: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """V [states] and Q [states, actions]."""
        pi = np.exp(log_policy(self._checked(logits)))
        values, action_values = np.zeros(len(pi), dtype=pi.dtype), self.rewards.astype(pi.dtype)
        for state in reversed(range(len(pi))):
            inner = self.children[state] != -1
            action_values[state, inner] += values[self.children[state, inner]]
            values[state] = pi[state] @ action_values[state]
        return values, action_values

    def policy_gradient(self, logits: ArrayLike) -> np.ndarray:
        """dJ / dz[s, a] = reach(s) pi(a|s) A(s, a), [states, actions]."""
        reach, pi = np.exp(self.log_reach(logits)), np.exp(log_policy(logits))
        return reach[:, None] * pi * self.advantages(logits)

    def natural_gradient(self, logits: ArrayLike) -> np.ndarray:
        """The policy gradient over the Fisher matrix of the responses: A(s, a) up to a constant per state.

        Such a constant moves no probability. Returns [states, actions].
        """
        return self.advantages(logits)

    def mean_entropy(self, logits: ArrayLike) -> complex | float:
        """Mean entropy per token in nats, E_{s ~ d_pi} H(pi(.|s)), d_pi of `visits`."""
        return self.visits(logits) @ entropy(logits)


def proposition_1(tree: Tree, logits: ArrayLike, step: float) -> Change:
    """Change of the logits in one step of the policy gradient, [states, actions].

    `predicted` is the paper's step pi A, `exact` the gradient of the expected return times step. The second is the
    first times the probability of reaching the state: the same on a bandit, smaller in every later state of a tree.

    Raises:
        ValueError: logits that are not finite or do not fit the tree.
    """
    pi = np.exp(log_policy(logits))
    return Change(step * pi * tree.advantages(logits), step * tree.policy_gradient(logits))


class EntropyChange(NamedTuple):
    """Change of the mean entropy per token, in nats.

    `actions`, Lemma 1's term: E_{s ~ d_pi} of -Cov_{a ~ pi}(log pi, delta). `states`, the term that it leaves out: the
    entropy of the states that the update makes more and less frequent. Their sum is the first order of `exact`.
    """

    actions: float
    states: float
    exact: float


def entropy_change(tree: Tree, logits: ArrayLike, delta: ArrayLike) -> EntropyChange:
    """Change of `Tree.mean_entropy` when the logits move by delta, and its two terms of first order.

    The term of the states is Cov_{s ~ d_pi}(g(s), H(s)), with g the first-order change of log reach(s): the sum of
    delta(s', a') - E_{a ~ pi(.|s')} delta(s', a) over the states s' and actions a' that lead to s.

    Args:
        tree: the language.
        logits, delta: [states, actions].

    Raises:
        ValueError: values that are not finite, or shapes that do not fit.
    """
    logits, delta = _alike(logits, "delta", delta)
    pi, visits, entropies = np.exp(log_policy(logits)), tree.visits(logits), entropy(logits)
    tilt = delta - (pi * delta).sum(axis=-1, keepdims=True)
    growth = np.zeros(len(tilt), dtype=tilt.dtype)
    for state, children in enumerate(tree.children):
        inner = children != -1
        growth[children[inner]] = growth[state] + tilt[state, inner]
    return EntropyChange(
        visits @ lemma_1(logits, delta).predicted,
        visits @ ((growth - visits @ growth) * entropies),
        tree.mean_entropy(logits + delta) - tree.mean_entropy(logits),
    )


def derivative(function: Callable[[complex], ArrayLike]) -> np.ndarray:
    """f'(0) of a function of one variable that takes complex numbers, by a complex step: Im f(ih) / h, h = 1e-100.

    Nothing is subtracted, so the result is exact to rounding. The function must be analytic, as all of this module is.
    """
    return np.imag(np.asarray(function(1e-100j))) / 1e-100


def error_order(change: Callable[[float], Change], steps: Sequence[float]) -> float:
    """Order in the step of the error of a prediction: slope of log max |exact - predicted| against log step.

    Args:
        change: gives prediction and exact value at a step.
        steps: at least two, positive and different.

    Raises:
        ValueError: too few or unusable steps, or an error that is zero.
    """
    steps = [float(step) for step in steps]
    if len(set(steps)) < 2 or min(steps) <= 0:
        raise ValueError(f"steps must be positive and at least two of them different, got {steps}")
    changes = [change(step) for step in steps]
    errors = np.array([np.abs(np.asarray(exact) - predicted).max() for predicted, exact in changes])
    if (errors == 0).any():
        raise ValueError(f"the error is zero at one of the steps {steps} and has no logarithm; take larger steps")
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def controlled_gradient(
    logits: ArrayLike, rewards: ArrayLike, *, bonus: float = 0.0, penalty: float = 0.0, top: int | None = None
) -> np.ndarray:
    """Gradient in the logits of a bandit of J + bonus H - penalty C, [actions].

    J is the expected reward, H the entropy and C the sum over the selected actions of pi(a) (log pi(a) + H) A(a), the
    paper's covariance of Theorem 2 where all are selected. Selected are the `top` actions of largest
    (log pi(a) + H) A(a), ties to the lower index, and the selection is held fixed in the derivative, as KL-Cov holds
    its set of tokens. This penalty is ours: it is the plainest one that arXiv:2604.09676's abstract fits.

    With two actions, x the difference of their logits and all selected, the gradient is that of J times
    1 - penalty (1 - x tanh(x / 2)). A penalty below 1 has no fixed point but single actions; above 1 there are two
    more where x tanh(x / 2) = 1 - 1 / penalty, and the stable one is on the side of the worse action. Past |x| = 1.54,
    where x tanh(x / 2) = 1, every penalty speeds the collapse up: covariance is also small without any entropy.

    Args:
        logits, rewards: [actions].
        bonus, penalty: coefficients, in units of reward per nat and of 1.
        top: number of selected actions; None selects all.

    Raises:
        ValueError: values that are not finite, shapes that differ, or `top` outside 1..actions.
    """
    logits, rewards = _alike(logits, "rewards", rewards)
    if logits.ndim != 1:
        raise ValueError(f"a bandit has one state: logits must have shape [actions], got {logits.shape}")
    if top is not None and not 1 <= top <= logits.size:
        raise ValueError(f"top must be from 1 to the {logits.size} actions, got {top}")
    log_pi = log_policy(logits)
    pi = np.exp(log_pi)
    surplus = log_pi - pi @ log_pi  # log pi + H
    advantages = rewards - pi @ rewards
    order = np.argsort(-(surplus * advantages).real, kind="stable")
    selected = np.zeros(logits.size)
    selected[order[:top]] = 1
    chosen = selected * pi
    total, mean_advantage = chosen @ (surplus * advantages), chosen @ advantages
    slope = (
        selected * (1 + surplus) * advantages - total - mean_advantage * (1 + surplus) - (chosen @ surplus) * advantages
    )
    return pi * (advantages - bonus * surplus - penalty * slope)


def ascend(
    logits: ArrayLike,
    rewards: ArrayLike,
    *,
    step: float,
    bonus: ArrayLike = 0.0,
    penalty: ArrayLike = 0.0,
    top: int | None = None,
    steps: int,
) -> np.ndarray:
    """Logits along an ascent by `controlled_gradient`, [steps + 1, actions], the first row as given.

    Args:
        logits, rewards: [actions].
        step: learning rate, > 0.
        bonus, penalty: one coefficient, or [steps] of them, for example annealed to zero.
        top: see `controlled_gradient`.
        steps: number of steps, >= 1.

    Raises:
        ValueError: steps or step out of range, a schedule of another length, or what `controlled_gradient` refuses.
    """
    if steps < 1 or not step > 0:
        raise ValueError(f"steps must be at least 1 and step positive, got {steps} and {step}")
    schedules = {}
    for name, schedule in (("bonus", bonus), ("penalty", penalty)):
        schedule = np.asarray(schedule, dtype=np.float64)
        if schedule.shape not in ((), (steps,)):
            raise ValueError(f"{name} must be one number or {steps}, one per step; got shape {schedule.shape}")
        schedules[name] = np.broadcast_to(schedule, steps)
    path = [_table("logits", logits)]
    for now_bonus, now_penalty in zip(schedules["bonus"], schedules["penalty"], strict=True):
        gradient = controlled_gradient(path[-1], rewards, bonus=now_bonus, penalty=now_penalty, top=top)
        path.append(path[-1] + step * gradient)
    return np.stack(path)
