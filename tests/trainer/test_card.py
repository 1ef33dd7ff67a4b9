"""The card of a trained model credits the method and cites its paper and TRL's."""

import pytest
from trl import GRPOConfig, GRPOTrainer

from repro.trainer import CovGRPOTrainer

from .test_methods import CLIP_COV, KL_COV


def card(trainer) -> str:
    trainer.create_model_card(model_name="ours")
    with open(f"{trainer.args.output_dir}/README.md", encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize(("method", "title"), [(KL_COV, "GRPO with KL-Cov"), (CLIP_COV, "GRPO with Clip-Cov")])
def test_methods_are_credited(make, method, title):
    text = card(make(CovGRPOTrainer, **method))
    assert f"trained with {title}, a method introduced in [The Entropy Mechanism" in text
    assert "https://huggingface.co/papers/2505.22617" in text
    assert f"Cite {title} as" in text
    bibliography = text.split("Cite GRPO with", 1)[1]
    assert "@article{cui2025entropy," in bibliography and "@article{shao2024deepseekmath," in bibliography
    assert "cov-grpo" in text


def test_off_the_card_is_trls(make):
    ours, theirs = card(make(CovGRPOTrainer)), card(make(GRPOTrainer, GRPOConfig))
    assert "cov-grpo" in ours
    drop = {"- cov-grpo", "- grpo"}
    assert sorted(set(ours.splitlines()) - drop) == sorted(set(theirs.splitlines()) - drop)
