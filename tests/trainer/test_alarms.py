"""Warnings that less is selected than the settings say: when, how often, and with which numbers."""

import warnings

import pytest
import torch

from repro.trainer import CovGRPOConfig
from repro.trainer.alarms import Alarms

from .test_methods import CLIP_COV, KL_COV

MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])
COVARIANCE = torch.tensor([[-0.5, 0.0, 0.25], [0.5, 2.0, torch.nan]])


def alarms(settings, method, **overrides):
    config = CovGRPOConfig(**(settings | method | overrides))
    made = Alarms(config, config.method(config, torch.device("cpu")))
    made.seen = COVARIANCE, MASK
    return made


def said(made, steps):
    """What is said of steps with these counts and pools."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for count, pool in steps:
            made.hear({"selected/count": count, "selected/pool": pool})
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(("method", "count"), [(KL_COV, 1), (CLIP_COV, 0), (CLIP_COV, 1)])
def test_the_floor_is_said_once_with_what_was_selected(settings, method, count):
    made = alarms(settings, method)
    message, *more = said(made, [(count, 20), (1, 20), (0, 20)])
    assert not more
    assert message.startswith("entropy_control_fraction=0.04 of the 20 tokens of a selection is 0.8 tokens, so that")
    assert f"entropy_control_minimum=1 decides, a fraction of 0.05, and {count} of the step's tokens were" in message


def test_a_step_without_tokens_is_no_floor(settings):
    assert said(alarms(settings, KL_COV), [(0, 0), (0, 0)]) == []
    assert said(alarms(settings, CLIP_COV), [(0, 0)] * 20) == []


def test_no_floor_above_one_token(settings):
    assert said(alarms(settings, KL_COV), [(1, 25), (1, 26)]) == []


def test_an_empty_band_is_said_once_with_the_covariances(settings):
    """4 updates a rollout: 7 steps in a row without a token hold a whole rollout."""
    made = alarms(settings, CLIP_COV, clip_cov_low=3.0, clip_cov_high=5.0)
    assert said(made, [(0, 100)] * 6) == []
    (message,) = said(made, [(0, 100)] * 20)
    assert message == (
        "Clip-Cov selected 0 tokens in 7 steps: the band 3 < covariance < 5 holds no token that PPO's clip leaves "
        "alone, while covariances are -0.5 (least), 0.25 (median), 1.94 (99 %) and 2 (largest): move the band with "
        "clip_cov_low and clip_cov_high"
    )


def test_a_rollout_with_one_token_is_not_empty(settings):
    """Its one token falls into one of four steps, at the start of one rollout and at the end of the next."""
    assert said(alarms(settings, CLIP_COV), [(0, 50), (1, 50), *[(0, 50)] * 6, (1, 50)]) == []


def test_each_step_of_its_own_scope_is_a_pool(settings):
    assert len(said(alarms(settings, CLIP_COV, entropy_control_scope="step"), [(0, 100)])) == 1


def test_kl_cov_and_a_quota_of_nothing_are_silent(settings):
    assert said(alarms(settings, KL_COV), [(0, 100)] * 9) == []
    none = alarms(settings, CLIP_COV, entropy_control_minimum=0)
    (message,) = said(none, [(0, 20)] * 9)
    assert "so that nothing is selected" in message


def test_training_with_an_empty_band(make):
    trainer = make(**CLIP_COV | {"clip_cov_low": 50.0, "clip_cov_high": 60.0}, max_steps=8)
    with pytest.warns(
        UserWarning, match=r"selected 0 tokens in 7 steps: the band 50 < covariance < 60 .*\(largest\)"
    ) as seen:
        trainer.train()
    assert len([warning for warning in seen if "the band" in str(warning.message)]) == 1
