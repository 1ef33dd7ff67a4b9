"""The recorded outputs of verl's two losses, through the trainer: its selection, its loss, its gradient."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from trl import GRPOTrainer

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = json.loads((GOLDEN / "cases.json").read_text())
NAMES = pytest.mark.parametrize("name", CASES)


@pytest.fixture
def through(make, monkeypatch):
    """Runs a recorded batch through the trainer's loss: (trainer, loss, gradient with respect to the log-probs)."""

    def run(data, selected=None, **settings):
        rows, length = data["mask"].shape
        trainer = make(
            per_device_train_batch_size=4 * rows,
            steps_per_generation=1,
            num_iterations=2,
            max_completion_length=length,
            token_sample_every=1,
            token_sample_size=rows,
            allow_large_fraction=True,
            **settings,
        )
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        log_probs = data["log_prob"].clone().requires_grad_()
        monkeypatch.setattr(
            GRPOTrainer,
            "_get_per_token_logps_and_entropies",
            lambda self, *args, **kwargs: (log_probs, torch.zeros_like(log_probs), None),
        )
        batch = {
            "prompt_ids": torch.ones(rows, 1, dtype=torch.long),
            "prompt_mask": torch.ones(rows, 1, dtype=torch.long),
            "completion_ids": torch.zeros(rows, length, dtype=torch.long),
            "completion_mask": data["mask"],
            "advantages": data["advantages"],
            "old_per_token_logps": data["old_log_prob"],
            "num_items_in_batch": data["mask"].sum(),
        }
        if selected is not None:
            batch |= {"cov_selected": selected, "cov_covariance": data["cov"]}
        loss = trainer._compute_loss(trainer.model, batch)
        (gradient,) = torch.autograd.grad(loss, log_probs)
        return trainer, loss, gradient

    return run


def golden(name):
    with np.load(GOLDEN / name) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def drawn_by_trainer(trainer, shape):
    tokens = trainer.sampled_tokens()
    selected = torch.zeros(shape, dtype=torch.bool)
    chosen = tokens[tokens["selected"]]
    selected[chosen["sequence"].tolist(), chosen["position"].tolist()] = True
    return selected


@NAMES
def test_kl_cov(through, name):
    case, data = CASES[name], golden(name)
    trainer, loss, gradient = through(
        data,
        entropy_control="kl_cov",
        entropy_control_scope="step",
        entropy_control_fraction=case["kl_cov_fraction"],
        kl_cov_coef=case["kl_coef"],
    )
    torch.testing.assert_close(loss.detach(), data["kl_cov_loss"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, data["kl_cov_grad"], rtol=1e-4, atol=1e-8)
    assert drawn_by_trainer(trainer, data["mask"].shape).sum() == data["kl_cov_count"]


@NAMES
def test_clip_cov(through, name):
    case, data = CASES[name], golden(name)
    settings = {
        "entropy_control": "clip_cov",
        "entropy_control_fraction": case["clip_cov_fraction"],
        "clip_cov_low": case["cov_low"],
        "clip_cov_high": case["cov_high"],
        "ratio_clip": "epsilon",
        "epsilon": case["clip_eps_low"],
        "epsilon_high": case["clip_eps_high"],
    }
    candidates = data["clip_cov_candidates"].bool()
    trainer, _, _ = through(data, entropy_control_scope="step", **settings)
    drawn = drawn_by_trainer(trainer, data["mask"].shape)
    assert (drawn & ~candidates).sum() == 0
    assert drawn.sum() == data["clip_cov_count"]

    # What verl drew: a candidate has a gradient unless it was drawn, or its advantage is 0 and it does not matter.
    theirs = candidates & (data["clip_cov_grad"] == 0) & (data["advantages"] != 0)
    assert theirs.sum() == data["clip_cov_count"]
    _, loss, gradient = through(data, selected=theirs, **settings)
    torch.testing.assert_close(loss.detach(), data["clip_cov_loss"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, data["clip_cov_grad"], rtol=1e-4, atol=1e-8)
