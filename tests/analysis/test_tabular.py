"""Exact softmax policies: the paper's identities in the limit, the order of their error, and what they leave out."""

import numpy as np
import pytest
from scipy.optimize import brentq

from repro.analysis import tabular
from repro.analysis.tabular import Tree

STEPS = np.geomspace(1e-3, 1e-1, 9)


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def tree_of_uneven_depth() -> Tree:
    """Root 0 leads to 1, 2 and the end; 1 to 3 twice over nothing else; 2 ends; 3 leads to 4."""
    children = np.array([[1, 2, -1], [-1, 3, -1], [-1, -1, -1], [4, -1, -1], [-1, -1, -1]])
    return Tree(children, random(children.shape, seed=1))


def full_tree(depth=3, actions=3) -> Tree:
    """Every response has `depth` tokens."""
    states = sum(actions**level for level in range(depth))
    children = np.arange(states * actions).reshape(states, actions) + 1
    return Tree(np.where(children < states, children, -1), random(children.shape, seed=2))


def responses(tree: Tree):
    """All responses as lists of (state, action)."""
    waiting = [(0, [])]
    while waiting:
        state, path = waiting.pop()
        for action, child in enumerate(tree.children[state]):
            if child == -1:
                yield [*path, (state, action)]
            else:
                waiting.append((child, [*path, (state, action)]))


def log_probability(tree: Tree, logits, response):
    log_pi = tabular.log_policy(logits)
    return sum(log_pi[state, action] for state, action in response)


def test_entropy_by_hand():
    # Uniform over 4: ln 4. Half, quarter, quarter: 1.5 ln 2. The level of the logits does not matter, even far away.
    logits = np.array([[0, 0, 0, 0], [7, 7, 7, 7]])
    np.testing.assert_allclose(tabular.entropy(logits), np.log(4), rtol=1e-15)
    assert tabular.entropy(np.log([0.5, 0.25, 0.25]) + 1000) == pytest.approx(1.5 * np.log(2), rel=1e-13)
    assert tabular.entropy([0.0, -800.0]) == 0


def test_covariance_by_hand():
    # pi = (3/4, 1/4), x = (1, 0), y = (2, 6): E xy = 3/2, E x = 3/4, E y = 3, so 3/2 - 9/4 = -3/4.
    assert tabular.covariance(np.log([3, 1]), [1, 0], [2, 6]) == pytest.approx(-0.75, rel=1e-14)
    assert tabular.covariance(random(5), random(5, 1) + 100, np.full(5, 3.0)) == pytest.approx(0, abs=1e-12)


def test_lemma_1_is_exact_in_the_limit_and_second_order_away_from_it():
    logits, delta = random((6, 5)), random((6, 5), seed=1)
    predicted = tabular.lemma_1(logits, delta).predicted
    limit = tabular.derivative(lambda t: tabular.entropy(logits + t * delta))
    np.testing.assert_allclose(predicted, limit, rtol=0, atol=1e-13)
    # Without complex numbers too: one Richardson step on central differences.
    coarse, fine = (
        (tabular.lemma_1(logits, h * delta).exact - tabular.lemma_1(logits, -h * delta).exact) / (2 * h)
        for h in (2e-3, 1e-3)
    )
    np.testing.assert_allclose((4 * fine - coarse) / 3, predicted, rtol=0, atol=1e-10)
    assert tabular.error_order(lambda h: tabular.lemma_1(logits, h * delta), STEPS) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("theorem", [tabular.theorem_1, tabular.theorem_2])
def test_theorems_are_exact_in_the_limit_and_second_order_away_from_it(theorem):
    logits, rewards = random(7), random(7, seed=1)
    advantages = Tree.bandit(rewards).advantages(logits[None])[0]
    limit = tabular.derivative(lambda t: theorem(logits, advantages, t).exact)
    assert theorem(logits, advantages, 1.0).predicted == pytest.approx(limit, abs=1e-13)
    assert tabular.error_order(lambda h: theorem(logits, advantages, h), STEPS) == pytest.approx(2, abs=0.1)


def test_theorems_by_hand():
    # pi = (3/4, 1/4) and rewards (1, 0): A = (1/4, -3/4), log pi differs by ln 3, and Cov(x, y) of two points is
    # pi_1 pi_2 (x_1 - x_2)(y_1 - y_2). Theorem 1: pi A = (3/16, -3/16). Theorem 2: A_1 - A_2 = 1.
    logits = np.log([3.0, 1.0])
    advantages = np.array([0.25, -0.75])
    assert tabular.theorem_1(logits, advantages, 0.1).predicted == pytest.approx(-0.1 * 3 / 16 * np.log(3) * 3 / 8)
    assert tabular.theorem_2(logits, advantages, 0.1).predicted == pytest.approx(-0.1 * 3 / 16 * np.log(3))
    # The exact change of the second: logits differ by ln 3 + 0.1.
    p = 1 / (1 + np.exp(-np.log(3) - 0.1))
    start = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    exact = -p * np.log(p) - (1 - p) * np.log(1 - p) - start
    assert tabular.theorem_2(logits, advantages, 0.1).exact == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("tree", [tree_of_uneven_depth(), full_tree()])
def test_gradients_of_the_return(tree):
    logits = random(tree.rewards.shape, seed=3)
    # Expected return by enumeration of the responses, and its derivative in every logit.
    mean = sum(
        np.exp(log_probability(tree, logits, response)) * sum(tree.rewards[place] for place in response)
        for response in responses(tree)
    )
    assert tree.expected_return(logits) == pytest.approx(mean, rel=1e-13)
    gradient = np.zeros_like(logits)
    for place in np.ndindex(logits.shape):
        direction = np.zeros_like(logits)
        direction[place] = 1
        gradient[place] = tabular.derivative(lambda t, d=direction: tree.expected_return(logits + t * d))
    np.testing.assert_allclose(tree.policy_gradient(logits), gradient, rtol=0, atol=1e-14)
    np.testing.assert_allclose(tabular.proposition_1(tree, logits, 0.3).exact, 0.3 * gradient, rtol=0, atol=1e-14)
    # Natural gradient: the Fisher matrix of the responses, by enumeration, pseudo-inverted.
    fisher = np.zeros((logits.size, logits.size))
    pi = np.exp(tabular.log_policy(logits))
    for response in responses(tree):
        score = np.zeros_like(logits)
        for state, action in response:
            score[state] -= pi[state]
            score[state, action] += 1
        fisher += np.exp(log_probability(tree, logits, response)) * np.outer(score, score)
    natural = (np.linalg.pinv(fisher, rcond=1e-12) @ gradient.ravel()).reshape(logits.shape)
    ours = tree.natural_gradient(logits)
    np.testing.assert_allclose(natural, ours - ours.mean(axis=1, keepdims=True), rtol=0, atol=1e-9)


def test_proposition_1_holds_on_a_bandit_and_lacks_the_reach_on_a_tree():
    bandit = Tree.bandit(random(6))
    predicted, exact = tabular.proposition_1(bandit, random((1, 6), seed=1), 0.7)
    np.testing.assert_allclose(predicted, exact, rtol=0, atol=1e-15)
    # Uniform binary choice twice: the second states are reached with probability 1/2 each.
    tree = Tree([[1, 2], [-1, -1], [-1, -1]], [[0, 0], [1, 0], [0, 0]])
    predicted, exact = tabular.proposition_1(tree, np.zeros((3, 2)), 1.0)
    # Root: Q = (1/2, 0), A = +-1/4, pi A = +-1/8. State 1: A = +-1/2, pi A = +-1/4, times a reach of 1/2.
    np.testing.assert_allclose(predicted, [[1 / 8, -1 / 8], [1 / 4, -1 / 4], [0, 0]], atol=1e-16)
    np.testing.assert_allclose(exact, [[1 / 8, -1 / 8], [1 / 8, -1 / 8], [0, 0]], atol=1e-16)


@pytest.mark.parametrize("tree", [tree_of_uneven_depth(), full_tree()])
def test_entropy_change_of_a_tree_is_both_terms(tree):
    logits, delta = random(tree.rewards.shape, seed=3), random(tree.rewards.shape, seed=4)
    change = tabular.entropy_change(tree, logits, delta)
    limit = tabular.derivative(lambda t: tree.mean_entropy(logits + t * delta))
    assert change.actions + change.states == pytest.approx(limit, abs=1e-13)
    # Lemma 1 alone is off by a term as large as itself here.
    assert abs(change.states) > 0.05 * abs(limit)

    def both(h):
        part = tabular.entropy_change(tree, logits, h * delta)
        return tabular.Change(part.actions + part.states, part.exact)

    def lemma_1_alone(h):
        part = tabular.entropy_change(tree, logits, h * delta)
        return tabular.Change(part.actions, part.exact)

    assert tabular.error_order(both, STEPS) == pytest.approx(2, abs=0.1)
    assert tabular.error_order(lemma_1_alone, STEPS[:5]) == pytest.approx(1, abs=0.1)


def test_entropy_change_against_the_covariance_over_whole_responses():
    # All responses of one length T: entropy of the response = T x mean entropy per token, and its change is -Cov over
    # responses of log pi(y) and the first-order change of log pi(y): the bandit of the paper's Eq. 8, states and all.
    # That change is the sum of delta - E delta along y; the mean differs from state to state and does not drop out.
    tree = full_tree(depth=3)
    logits, delta = random(tree.rewards.shape, seed=3), random(tree.rewards.shape, seed=4)
    tilt = delta - (np.exp(tabular.log_policy(logits)) * delta).sum(axis=1, keepdims=True)
    every = list(responses(tree))
    log_p = np.array([log_probability(tree, logits, response) for response in every])
    total = np.array([sum(tilt[place] for place in response) for response in every])
    change = tabular.entropy_change(tree, logits, delta)
    assert 3 * tree.mean_entropy(logits) == pytest.approx(-(np.exp(log_p) @ log_p), rel=1e-13)
    assert 3 * (change.actions + change.states) == pytest.approx(-tabular.covariance(log_p, log_p, total), rel=1e-12)


def test_states_term_by_hand():
    # Root: fair coin between state 1 (fair, ln 2) and state 2 (certain, 0). Only the root's logits move, by (d, -d), so
    # reach moves by (d / 2, -d / 2); d_pi is (1/2, 1/4, 1/4) and stays 1/2 on the root. Lemma 1 sees nothing.
    tree = Tree([[1, 2], [-1, -1], [-1, -1]], np.zeros((3, 2)))
    logits = np.array([[0, 0], [0, 0], [0, -1000]])
    change = tabular.entropy_change(tree, logits, [[0.01, -0.01], [0, 0], [0, 0]])
    assert change.actions == pytest.approx(0, abs=1e-17)
    assert change.states == pytest.approx(0.01 / 4 * np.log(2), rel=1e-12)
    assert change.exact == pytest.approx(0.01 / 4 * np.log(2), rel=0.02)


def test_bandit_has_no_states_term():
    tree, logits, delta = Tree.bandit(random(5)), random((1, 5), seed=1), random((1, 5), seed=2)
    change = tabular.entropy_change(tree, logits, delta)
    assert change.states == pytest.approx(0, abs=1e-16)
    assert change.actions == tabular.lemma_1(logits, delta).predicted[0]


def test_error_order_of_known_errors():
    assert tabular.error_order(lambda h: tabular.Change(np.zeros(2), np.array([h**3, 0])), STEPS) == pytest.approx(3)
    with pytest.raises(ValueError, match="error is zero at one of the steps"):
        tabular.error_order(lambda h: tabular.Change(np.zeros(1), np.zeros(1)), STEPS)
    for steps in ([0.1], [0.1, 0.1], [0.0, 0.1]):
        with pytest.raises(ValueError, match="steps must be positive"):
            tabular.error_order(lambda h: tabular.Change(np.zeros(1), np.ones(1)), steps)


@pytest.mark.parametrize("top", [None, 1, 2])
def test_controlled_gradient_is_the_derivative_of_its_objective(top):
    logits, rewards, bonus, penalty = random(4), random(4, seed=1), 0.3, 0.7
    log_pi = tabular.log_policy(logits)
    scores = (log_pi + tabular.entropy(logits)) * (rewards - np.exp(log_pi) @ rewards)
    chosen = np.argsort(-scores)[:top]

    def objective(z):
        log_pi = tabular.log_policy(z)
        pi, h = np.exp(log_pi), tabular.entropy(z)
        terms = pi * (log_pi + h) * (rewards - pi @ rewards)
        return pi @ rewards + bonus * h - penalty * terms[chosen].sum()

    numeric = [tabular.derivative(lambda t, e=e: objective(logits + t * e)) for e in np.eye(4)]
    ours = tabular.controlled_gradient(logits, rewards, bonus=bonus, penalty=penalty, top=top)
    np.testing.assert_allclose(ours, numeric, rtol=0, atol=1e-14)


def test_all_actions_selected_is_the_covariance_of_theorem_2():
    logits, rewards = random(4), random(4, seed=1)

    def minus_cov(z):
        log_pi = tabular.log_policy(z)
        return -tabular.covariance(z, log_pi, rewards - np.exp(log_pi) @ rewards)

    numeric = [tabular.derivative(lambda t, e=e: minus_cov(logits + t * e)) for e in np.eye(4)]
    with_penalty = tabular.controlled_gradient(logits, rewards, penalty=1.0)
    np.testing.assert_allclose(with_penalty - tabular.controlled_gradient(logits, rewards), numeric, rtol=0, atol=1e-14)


def test_constant_bonus_stops_at_its_fixed_point():
    rewards = np.array([1, 0.8, 0.5, 0])
    fixed = np.exp(tabular.log_policy(rewards / 0.2))  # maximises expected reward + 0.2 entropy
    gradient = tabular.controlled_gradient(np.log(fixed), rewards, bonus=0.2)
    np.testing.assert_allclose(gradient, 0, atol=1e-16)
    path = tabular.ascend(random(4), rewards, step=1.0, bonus=0.2, steps=2000)
    np.testing.assert_allclose(np.exp(tabular.log_policy(path[-1])), fixed, rtol=0, atol=1e-3)
    assert rewards.max() - fixed @ rewards > 0.08


def annealed(coefficient, steps=2000):
    """Falls to zero over the first third."""
    return coefficient * np.maximum(0, 1 - np.arange(steps) / (steps / 3))


@pytest.mark.parametrize(
    ("arguments", "regret"),
    [
        ({}, 0),
        ({"bonus": 0.2}, 0.0834),
        # Annealing makes the bonus unbiased just as it does the penalty.
        ({"bonus": annealed(0.2)}, 0),
        ({"penalty": 0.9}, 0),
        ({"penalty": 2.0}, 0.7198),
        ({"penalty": annealed(2.0)}, 0),
        ({"penalty": annealed(2.0), "top": 1}, 0),
    ],
)
def test_where_an_ascent_ends(arguments, regret):
    rewards = np.array([1, 0.8, 0.5, 0])
    path = tabular.ascend(np.zeros(4), rewards, step=1.0, steps=2000, **arguments)
    assert path.shape == (2001, 4)
    assert rewards.max() - np.exp(tabular.log_policy(path[-1])) @ rewards == pytest.approx(regret, abs=5e-4)


def test_fixed_points_of_the_penalty_on_two_actions():
    penalty = 2.0
    x = brentq(lambda x: x * np.tanh(x / 2) - (1 - 1 / penalty), 0.1, 5, xtol=1e-14)
    rewards = np.array([1.0, 0.0])
    for sign in (1, -1):
        assert tabular.controlled_gradient([sign * x, 0], rewards, penalty=penalty) == pytest.approx(0, abs=1e-12)
    # From anywhere below the upper one the ascent ends at the lower one, on the side of the worse action.
    path = tabular.ascend([x - 0.05, 0], rewards, step=1.0, penalty=penalty, steps=600)
    assert path[-1, 0] - path[-1, 1] == pytest.approx(-x, abs=1e-6)
    # Past x tanh(x / 2) = 1 the penalty speeds collapse up; before, it slows it down.
    plain, slowed = (tabular.controlled_gradient([1.4, 0], rewards, penalty=k)[0] for k in (0, 0.5))
    assert slowed < plain
    plain, sped = (tabular.controlled_gradient([1.7, 0], rewards, penalty=k)[0] for k in (0, 0.5))
    assert sped > plain


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tabular.entropy([0, -np.inf]), "logits must be finite.*leave out actions"),
        (lambda: tabular.entropy(3.0), r"shape \[..., actions\] with at least one action, got \(\)"),
        (lambda: tabular.lemma_1([0, 1], [0, 1, 2]), r"delta must have the shape of the logits, \(2,\), got \(3,\)"),
        (lambda: tabular.theorem_2([0, 1], [np.nan, 1], 1), "advantages must be finite"),
        (lambda: tabular.covariance([0, 1], [1, 1], [1]), "y must have the shape"),
        (lambda: Tree([[1, 1], [-1, -1]], np.zeros((2, 2))), "must be the child of one action.*from the root outwards"),
        (lambda: Tree([[-1, -1], [0, -1]], np.zeros((2, 2))), "must be the child of one action"),
        (lambda: Tree([[1, -1], [2, -1], [-1, -2]], np.zeros((3, 2))), "must be the child of one action"),
        (lambda: Tree([[-1.0]], [[0.0]]), "children must be integers"),
        (lambda: Tree([[-1, -1]], [[0.0]]), "children must be integers of the shape of the rewards"),
        (lambda: Tree.bandit([[1, 0]]), "a bandit has one state"),
        (lambda: Tree.bandit([1, 0]).mean_entropy([0, 0]), r"\[states, actions\] = \(1, 2\), got \(2,\)"),
        (lambda: tabular.controlled_gradient([0, 0], [1, 0], top=3), "top must be from 1 to the 2 actions, got 3"),
        (lambda: tabular.controlled_gradient([[0, 0]], [[1, 0]]), "a bandit has one state"),
        (lambda: tabular.ascend([0, 0], [1, 0], step=1, steps=0), "steps must be at least 1"),
        (lambda: tabular.ascend([0, 0], [1, 0], step=1, steps=3, bonus=[1, 2]), "bonus must be one number or 3"),
    ],
)
def test_unusable_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
