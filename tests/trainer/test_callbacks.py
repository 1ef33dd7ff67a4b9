"""The callback for TRL's own trainers: same metrics, and nothing else changes."""

import pytest
import torch
from trl import GRPOConfig, RLOOConfig

from repro.errors import ConfigError
from repro.trainer import callbacks
from repro.trainer.callbacks import CovarianceCallback

from .conftest import FixedGRPOTrainer, FixedRLOOTrainer, history, numbered_prompts

OURS = ("entropy/", "covariance/", "ratio/")


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


def count_fetches(callback):
    """Notes how many steps each copy to the host takes along."""
    sizes = []
    collect = callback.monitor.collect
    callback.monitor.collect = lambda: sizes.append(callback.monitor.pending) or collect()
    return sizes


def test_one_fetch_per_log(make):
    trainer = make(FixedGRPOTrainer, GRPOConfig, logging_steps=2)
    sizes = count_fetches(CovarianceCallback.attach(trainer))
    trainer.train()
    assert sizes == [2, 2, 0]  # the last log is that of the whole training
    assert len(history(trainer)) == 2


@pytest.mark.parametrize("every", [2, 256])
def test_a_log_per_epoch_has_the_means_and_holds_few_steps(make, train, monkeypatch, every):
    monkeypatch.setattr(callbacks, "DRAIN_EVERY", every)
    settings = {"logging_strategy": "epoch", "max_steps": -1, "num_train_epochs": 2, "rows": 24}
    ours = train(**settings)
    watched = make(FixedGRPOTrainer, GRPOConfig, **settings)
    sizes = count_fetches(CovarianceCallback.attach(watched))
    watched.train()
    assert watched.state.global_step == 24
    assert max(sizes) == min(every, 12)
    assert len(history(ours)) == len(history(watched)) == 2
    for expected, found in zip(history(ours), history(watched), strict=True):
        assert found == {name: expected[name] for name in found}
        assert found["covariance/top_0.02"] > 0


def test_rloo(make):
    trainer = make(FixedRLOOTrainer, RLOOConfig, beta=0.0)
    CovarianceCallback.attach(trainer)
    trainer.train()
    entry = history(trainer)[0]
    assert entry["entropy/token_mean"] == pytest.approx(entry["entropy"], rel=1e-5)
    assert entry["entropy/response_mean"] > 0 and entry["covariance/top_0.5"] > entry["covariance/mean"]
    assert not [name for name in entry if name.startswith("ratio/")]


def test_refuses_to_attach_twice_or_to_what_it_cannot_watch(make):
    trainer = make(FixedGRPOTrainer, GRPOConfig)
    CovarianceCallback.attach(trainer)
    with pytest.raises(ConfigError, match="logs covariance metrics already"):
        CovarianceCallback.attach(trainer)
    with pytest.raises(ConfigError, match="logs covariance metrics already"):
        CovarianceCallback.attach(make())
    with pytest.raises(ConfigError, match="Linear has no log-probabilities.*GRPOTrainer or RLOOTrainer"):
        CovarianceCallback.attach(torch.nn.Linear(1, 1))


def test_made_by_itself_it_says_how_to_attach(make):
    trainer = make(FixedGRPOTrainer, GRPOConfig)
    with pytest.raises(ConfigError, match=r"would log nothing.*then call CovarianceCallback\.attach\(trainer\)"):
        trainer.add_callback(CovarianceCallback(trainer))
    with pytest.raises(ConfigError, match=r"call CovarianceCallback\.attach\(trainer\)"):
        make(FixedGRPOTrainer, GRPOConfig, callbacks=[CovarianceCallback])


def test_evaluation_is_not_observed(make):
    trainer = make(FixedGRPOTrainer, GRPOConfig, eval_dataset=numbered_prompts(8), per_device_eval_batch_size=8)
    callback = CovarianceCallback.attach(trainer)
    trainer.evaluate()
    assert callback.monitor.collect() == []
