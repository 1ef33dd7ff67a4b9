"""The callback for TRL's own trainers: same metrics, and nothing else changes."""

import pytest
import torch
from trl import GRPOConfig, RLOOConfig

from repro.errors import ConfigError
from repro.trainer.callbacks import CovarianceCallback

from .conftest import FixedGRPOTrainer, FixedRLOOTrainer, history, numbered_prompts

OURS = ("entropy/", "covariance/", "ratio/", "clipped/")


def test_same_metrics_as_our_trainer_and_an_untouched_parent(make, train):
    plain = train(FixedGRPOTrainer, GRPOConfig)
    ours = train()
    watched = make(FixedGRPOTrainer, GRPOConfig)
    CovarianceCallback.attach(watched)
    watched.train()
    for expected, reference, found in zip(history(ours), history(plain), history(watched), strict=True):
        assert {name for name in found if name not in reference} == {n for n in expected if n.startswith(OURS)}
        assert found == {name: expected[name] for name in found}
        assert reference == {name: found[name] for name in reference}
    assert history(watched)[1]["covariance/top_0.02"] > 0


def test_one_fetch_per_log(make):
    trainer = make(FixedGRPOTrainer, GRPOConfig, logging_steps=2)
    callback = CovarianceCallback.attach(trainer)
    sizes = []
    collect = callback.monitor.collect
    callback.monitor.collect = lambda: sizes.append(len(callback.monitor._finished)) or collect()
    trainer.train()
    assert sizes == [2, 2]
    assert len(history(trainer)) == 2


def test_rloo(make):
    trainer = make(FixedRLOOTrainer, RLOOConfig, beta=0.0)
    CovarianceCallback.attach(trainer)
    trainer.train()
    entry = history(trainer)[0]
    assert entry["entropy/token_mean"] == pytest.approx(entry["entropy"], rel=1e-5)
    assert entry["entropy/response_mean"] > 0 and entry["covariance/top_0.5"] > entry["covariance/mean"]
    assert not [name for name in entry if name.startswith(("ratio/", "clipped/"))]


def test_sequence_ratios_are_not_clipped_by_token(make):
    trainer = make(FixedGRPOTrainer, GRPOConfig, importance_sampling_level="sequence", loss_type="grpo")
    CovarianceCallback.attach(trainer)
    trainer.train()
    assert "ratio/mean" in history(trainer)[0] and "clipped/low" not in history(trainer)[0]


def test_refuses_to_attach_twice_or_to_what_it_cannot_watch(make):
    trainer = make(FixedGRPOTrainer, GRPOConfig)
    CovarianceCallback.attach(trainer)
    with pytest.raises(ConfigError, match="logs covariance metrics already"):
        CovarianceCallback.attach(trainer)
    with pytest.raises(ConfigError, match="logs covariance metrics already"):
        CovarianceCallback.attach(make())
    with pytest.raises(ConfigError, match="Linear has no log-probabilities.*GRPOTrainer or RLOOTrainer"):
        CovarianceCallback.attach(torch.nn.Linear(1, 1))


def test_evaluation_is_not_observed(make):
    trainer = make(FixedGRPOTrainer, GRPOConfig, eval_dataset=numbered_prompts(8), per_device_eval_batch_size=8)
    callback = CovarianceCallback.attach(trainer)
    trainer.evaluate()
    assert callback.monitor.collect() == []
