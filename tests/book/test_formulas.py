"""The exhibits' formulas in JavaScript against the library's, on random inputs; needs node."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from repro import losses, ops
from repro.analysis import law, tabular

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node")
SCRIPT = Path(__file__).with_name("formulas.mjs")
SEEDS = range(5)


def ask(*questions: tuple[str, Mapping[str, Any]]) -> list[Any]:
    plain = json.dumps(questions, default=lambda value: value.tolist())
    done = subprocess.run([NODE, str(SCRIPT)], input=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def close(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(np.asarray(ours, dtype=float), theirs, rtol=1e-9, atol=1e-9)


def run_of(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, entropies and rewards of a made-up run that follows the law with noise."""
    rng = np.random.default_rng(seed)
    steps = np.arange(n) * 20.0
    entropies = 0.02 + 0.6 * np.exp(-np.arange(n) / 6) * np.exp(rng.normal(0, 0.02, n))
    return steps, entropies, 0.9 - 0.3 * np.exp(entropies) + rng.normal(0, 0.01, n)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_policy_and_lemma_1(seed):
    rng = np.random.default_rng(seed)
    given = {name: rng.normal(0, 2, 6) for name in ("logits", "delta", "x", "y")}
    (found,) = ask(("policy", given))
    change = tabular.lemma_1(given["logits"], given["delta"])
    close(found["log_policy"], tabular.log_policy(given["logits"]))
    close(found["entropy"], tabular.entropy(given["logits"]))
    close(found["covariance"], tabular.covariance(given["logits"], given["x"], given["y"]))
    close([found["change"]["predicted"], found["change"]["exact"]], list(change))


@pytest.mark.parametrize("natural", [False, True])
def test_the_two_gradients(natural):
    rng = np.random.default_rng(7)
    logits, rewards, step = rng.normal(0, 1, 5), rng.uniform(0, 1, 5), 0.3
    (found,) = ask(("gradient", {"logits": logits, "rewards": rewards, "step": step, "natural": natural}))
    advantages = tabular.Tree.bandit(rewards).advantages(logits[None])[0]
    theorem = tabular.theorem_2 if natural else tabular.theorem_1
    close(found["advantage"], advantages)
    close([found["change"]["predicted"], found["change"]["exact"]], list(theorem(logits, advantages, step)))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_law_and_its_bootstrap(seed):
    _, entropies, rewards = run_of(seed, 20 + 7 * seed)
    fit = law.fit_law(entropies, rewards)
    level, resamples = 0.9, 40
    given = {"entropies": entropies, "rewards": rewards}
    (plan,) = ask(("plan", given))
    # The same stream of the same generator draws the same blocks on both sides.
    chosen = np.random.default_rng(seed).integers(0, plan["blocks"], size=(resamples, plan["perDraw"]))
    (found,) = ask(("law", given | {"chosen": chosen, "level": level}))
    close([found[name] for name in ("a", "b", "ceiling", "r2", "rmse")], [fit.a, fit.b, fit.ceiling, fit.r2, fit.rmse])
    close(found["draws"], fit._draws(level, np.random.default_rng(seed), resamples, None))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_sigmoid_finds_as_good_a_fit(seed):
    steps, entropies, rewards = run_of(seed, 30)
    early = law.Trajectory(steps[:20], entropies[:20], rewards[:20])
    (found,) = ask(("sigmoid", {"steps": early.step, "rewards": early.reward, "at": steps[20:]}))
    expected = law.FORMS["sigmoid in steps"](early)
    fitted = expected(early.step, early.entropy)
    # Two searches of one minimum agree in its value to rounding, in its place only to the root of that.
    close(found["loss"], np.square(early.reward - fitted).sum() / np.square(early.reward - early.reward.mean()).sum())
    np.testing.assert_allclose(found["predicted"], expected(steps[20:], entropies[20:]), atol=1e-5)


@pytest.mark.parametrize("fraction", [0.0002, 0.002, 0.02, 0.3, 1.0])
def test_who_is_selected(fraction):
    rng = np.random.default_rng(3)
    log_probs, advantages = -rng.exponential(0.5, 600), rng.choice([-1.2, -0.5, 0.5, 1.6], 600)
    log_probs[100:140] = log_probs[99]  # Ties, decided by the place.
    advantages[100:140] = advantages[99]
    given = {"logProbs": log_probs, "advantage": advantages, "fraction": fraction, "minimum": 1, "low": 0.3, "high": 2}
    (found,) = ask(("tokens", given))
    tensors = [torch.from_numpy(values)[None] for values in (log_probs, advantages)]
    mask = torch.ones_like(tensors[0], dtype=torch.bool)
    covariance = ops.token_covariance(*tensors, mask)
    close(found["covariance"], covariance[0])
    assert found["top"] == ops.select_top(covariance, mask, fraction)[0].nonzero().flatten().tolist()
    candidates = (covariance[0] > 0.3) & (covariance[0] < 2)
    assert found["candidates"] == candidates.nonzero().flatten().tolist()
    assert found["drawn"] == int(ops.select_band(covariance, mask, fraction, 0.3, 2).sum())
    positive = covariance[0][tensors[1][0] > 0]
    assert positive.max() <= found["bound"] + 1e-12


def test_ties_go_to_the_earlier_token_and_the_bands_ends_are_not_in_it():
    """All covariances are (-1 + 2) * 1 = (-3 + 2) * -1 = 1."""
    given = {
        "logProbs": [-1.0] * 10 + [-3.0] * 10,
        "advantage": [1.0] * 10 + [-1.0] * 10,
        "fraction": 0.25,
        "minimum": 1,
    }
    lower, upper = ask(("tokens", given | {"low": 1, "high": 5}), ("tokens", given | {"low": 0, "high": 1}))
    assert lower["covariance"] == [1.0] * 20
    assert lower["top"] == list(range(5))
    assert lower["candidates"] == upper["candidates"] == []


def test_quotas_are_those_of_the_operators():
    cases = [(count, fraction) for count in (1, 499, 500, 1500, 5000, 99999) for fraction in (2e-4, 2e-3, 0.02, 1e-7)]
    found = ask(*(("quota", {"count": count, "fraction": fraction, "minimum": 1}) for count, fraction in cases))
    for (count, fraction), size in zip(cases, found, strict=True):
        covariance = torch.arange(count, dtype=torch.float64)[None]
        assert size == int(ops.select_top(covariance, torch.ones_like(covariance), fraction).sum()), (count, fraction)


def test_the_terms_of_the_objectives():
    rng = np.random.default_rng(5)
    ratios, advantages = np.exp(rng.normal(0, 0.6, 200)), rng.normal(0, 1, 200)
    selected = rng.random(200) < 0.3
    given = {"ratios": ratios, "advantage": advantages, "selected": selected, "coefficient": 0.7}
    (found,) = ask(("terms", given | {"low": 0.2, "high": 0.28}))
    new, old, advantage = torch.log(torch.from_numpy(ratios)), torch.zeros(200, dtype=torch.float64), advantages
    advantage, mask = torch.from_numpy(advantage), torch.from_numpy(selected)
    grpo, _ = losses.policy_gradient_terms(new, old, advantage, epsilon_low=0.2, epsilon_high=0.28)
    wide, _ = losses.policy_gradient_terms(new, old, advantage, epsilon_low=1.0, epsilon_high=1.0)
    free, _ = losses.policy_gradient_terms(new, old, advantage)
    close([one["grpo"] for one in found], grpo)
    close([one["clipCov"] for one in found], torch.where(mask, 0.0, wide))
    close([one["klCov"] for one in found], free + losses.kl_cov_penalty(new, old, mask, 0.7))


def test_quantiles():
    rng = np.random.default_rng(0)
    shares, degrees = rng.uniform(0.6, 0.999, 30), rng.uniform(2, 200, 30)
    values = rng.normal(size=37)
    found, quantile = ask(
        ("quantiles", {"shares": shares, "degrees": degrees}), ("quantile", {"values": values, "share": 0.025})
    )
    close(found["student"], stats.t.ppf(shares, degrees))
    close(found["normal"], stats.norm.ppf(shares))
    close(quantile, np.quantile(values, 0.025))


ROWS = "step,entropy,accuracy\n0,0.6,0.2\n10,0.4,0.3\n20,0.2,0.5\n"
POINTS = [(0, 0.6, 0.2), (10, 0.4, 0.3), (20, 0.2, 0.5)]


@pytest.mark.parametrize(
    "text",
    [
        ROWS,
        "\ufeff" + ROWS.replace("\n", "\r\n"),
        ROWS.replace(",", ";"),
        '{"step":0,"data":{"actor/entropy":0.6,"critic/score/mean":0.2}}\n'
        '{"step":10,"data":{"actor/entropy":0.4,"critic/score/mean":0.3}}\n'
        '{"step":20,"data":{"actor/entropy":0.2,"critic/score/mean":0.5}}',
        # Training and evaluation in rows of their own: a score meets the latest entropy; a repeated step counts once.
        "step,entropy,accuracy\n0,0.6,\n0,,0.2\n20,0.1,0.9\n10,0.4,\n10,,0.3\n20,0.2,0.5\n",
    ],
)
def test_people_can_bring_their_own_log(text):
    (found,) = ask(("log", {"text": text}))
    assert [(one["step"], one["entropy"], one["reward"]) for one in found["points"]] == POINTS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("just words\nand more", "names no columns"),
        ('{"step": 1\n', "line 1 is not JSON"),
        ("step,loss\n1,2\n", "no column for entropy; choose one of step, loss"),
    ],
)
def test_a_log_that_cannot_be_read_says_why(text, message):
    (found,) = ask(("log", {"text": text}))
    assert message in found["error"]
