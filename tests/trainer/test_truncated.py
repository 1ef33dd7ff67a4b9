"""Optimizer steps without a token: ``mask_truncated_completions`` where every completion is cut off."""

import pytest
from trl import GRPOConfig, GRPOTrainer

from repro.trainer import CovGRPOTrainer

from .conftest import LENGTH, FixedRollouts, history
from .test_adaptive import ADAPTIVE
from .test_methods import CLIP_COV, KL_COV


class CutOff(FixedRollouts):
    """Every completion of the second rollout, steps 5 to 8, has no end."""

    def _generate_single_turn(self, prompt_ids, *args):
        completions, _ = super()._generate_single_turn(prompt_ids, *args)
        second = 4 <= self.state.global_step < 8
        return [[3] * LENGTH] * len(completions) if second else completions, None


class Stock(CutOff, GRPOTrainer):
    pass


class Ours(CutOff, CovGRPOTrainer):
    pass


RUN = {"mask_truncated_completions": True, "max_steps": 10}
MANY = {"entropy_control_fraction": 0.2, "allow_large_fraction": True}
SPLIT = {"gradient_accumulation_steps": 2, "steps_per_generation": 8, "per_device_train_batch_size": 4}
CASES = {
    "kl_cov, rollout": KL_COV,
    "kl_cov, step": KL_COV | SPLIT | {"entropy_control_scope": "step"},
    "kl_cov, micro": KL_COV | SPLIT | {"entropy_control_scope": "micro"},
    "kl_cov, random": KL_COV | {"entropy_control_tokens": "random"},
    "kl_cov, high entropy, step": KL_COV
    | SPLIT
    | {"entropy_control_scope": "step", "entropy_control_tokens": "high_entropy"},
    "clip_cov, gradient": CLIP_COV | {"entropy_control_budget": "gradient"},
    "clip_cov, steer, gradient, micro": {
        **{"entropy_control": "clip_cov", "entropy_control_tokens": "steer"},
        **{"entropy_control_budget": "gradient", "entropy_control_scope": "micro"},
    },
    "clip_cov, rollout": CLIP_COV,
    "clip_cov, step": CLIP_COV | SPLIT | {"entropy_control_scope": "step"},
    "clip_cov, micro": CLIP_COV | {"entropy_control_scope": "micro"},
}


@pytest.mark.parametrize("name", CASES)
def test_trains_on_and_claims_nothing(train, name):
    logs = history(train(Ours, **RUN, **(CASES[name] | MANY)))
    assert len(logs) == 10
    for entry in logs[4:8]:
        assert entry["loss"] == 0 and entry["selected/count"] == entry["selected/pool"] == 0
        for metric in ("entropy/token_mean", "entropy/response_mean", "covariance/mean", "covariance/top_0.2"):
            assert entry[metric] is None
        assert [entry[f"ratio/{metric}"] for metric in ("mean", "min", "max", "kl")] == [None] * 4
        assert entry.get("selected/gradient_share") is None
    for entry in (logs[3], logs[8]):
        assert entry["entropy/token_mean"] > 0 and entry["ratio/min"] > 0


def test_off_is_the_parent(train):
    parent, ours = history(train(Stock, GRPOConfig, **RUN)), history(train(Ours, **RUN))
    for before, after in zip(parent, ours, strict=True):
        assert before == {name: after[name] for name in before}


def test_the_controller_does_not_move(train):
    logs = history(train(Ours, **RUN, **ADAPTIVE, entropy_target=4.0))
    coefficients = [entry["kl_cov/coefficient"] for entry in logs]
    assert coefficients[0] < coefficients[3] < coefficients[4]
    assert coefficients[4:9] == [coefficients[4]] * 5
    assert coefficients[9] > coefficients[8]
