"""The conditions of a testbed on hand-made runs."""

import numpy as np
import pytest

from repro.claims import ClaimError
from repro.claims.measures import collapse, regime


def test_starts_ends_and_room(make_run):
    run = make_run(0, entropy=lambda x: 0.6 - 0.5 * x, accuracy=lambda x: 0.2 + 0.4 * x, steps_per_generation=1)
    run.metrics["completions/clipped_ratio"] = np.linspace(0, 0.1, len(run.metrics))
    run.metrics["frac_reward_zero_std"] = 0.25
    run.metrics["covariance/top_0.02"] = [1.4, *[9.0] * (len(run.metrics) - 1)]
    run.evaluations["accuracy/pass@64"] = 0.95
    assert regime.start(run, quantity="entropy") == pytest.approx(0.6, abs=0.01)
    assert regime.end(run, quantity="accuracy", window=1 / 8) == pytest.approx(0.575, abs=0.01)
    assert regime.end(run, quantity="truncated", window=1 / 8) == pytest.approx(0.094, abs=0.002)
    assert regime.end(run, quantity="no_spread", window=1 / 8) == 0.25
    assert regime.room(run, k=64) == pytest.approx(0.95 - run.evaluations["accuracy/mean"].iloc[-1])
    assert regime.top_covariance(run, fraction=0.02) == 1.4


def test_a_share_of_the_gain_may_be_of_greedy_responses(make_run):
    run = make_run(0, accuracy=lambda x: 0.2 + 0.4 * x, steps_per_generation=1, eval_steps=1)
    run.evaluations["accuracy/greedy"] = np.minimum(0.4 + run.evaluations["step"] / 100, 0.8)
    arguments = {"fraction": 0.5, "window": 0.01, "minimum": 0.05}
    assert collapse.gain_share(run, **arguments) == pytest.approx(0.5, abs=0.01)
    assert collapse.gain_share(run, **arguments, decoding="greedy") == pytest.approx(1, abs=0.01)
    with pytest.raises(ClaimError, match="evaluations have no decoding 'beam'; choose from sampled, greedy"):
        collapse.gain_share(run, **arguments, decoding="beam")
