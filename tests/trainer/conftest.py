"""Tiny trainers: an untrained policy, completions fixed by their prompt, a reward fixed by the text."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast, PrinterCallback, Qwen2ForCausalLM
from trl import GRPOTrainer, RLOOTrainer

from repro.policies.family import make_model, make_tokenizer
from repro.seeds import derive_seed
from repro.tasks import get_task
from repro.trainer import CovGRPOConfig, CovGRPOTrainer

IGNORED = (
    # TRL 1.16 sets gradient_checkpointing in its base config, which transformers 5.23 calls activation_checkpointing.
    "ignore:.*gradient_checkpointing.* is deprecated:FutureWarning",
    # torch's checkpointing, which TRL turns on by default, when its input needs no gradient.
    "ignore:None of the inputs have requires_grad=True:UserWarning",
)
HERE = Path(__file__).parent
LENGTH = 8

Maker = Callable[..., CovGRPOTrainer]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in Path(item.path).parents:
            for ignored in IGNORED:
                item.add_marker(pytest.mark.filterwarnings(ignored))


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(get_task("arithmetic"))


@pytest.fixture
def policy(tokenizer) -> Callable[[], Qwen2ForCausalLM]:
    """Makes the same untrained policy every time."""

    def make() -> Qwen2ForCausalLM:
        with torch.random.fork_rng([]):
            torch.manual_seed(1)
            return make_model("s", tokenizer)

    return make


def numbered_prompts(count: int = 64) -> Dataset:
    return Dataset.from_dict({"prompt": [f"{number % 10}+{number // 10}:" for number in range(count)]})


def text_reward(completions: list[str], **_: object) -> list[float]:
    """0 or 1 by a hash of the text."""
    return [float(hashlib.sha256(text.encode()).digest()[0] % 2) for text in completions]


def fixed_completion(prompt: list[int], index: int, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """1 to LENGTH tokens that depend on the prompt's tokens and on the place in its group alone."""
    draw = torch.Generator().manual_seed(derive_seed("completion", tuple(prompt), index))
    length = int(torch.randint(1, LENGTH + 1, (), generator=draw))
    tokens = torch.randint(3, len(tokenizer), (length,), generator=draw).tolist()
    return tokens if length == LENGTH else [*tokens[:-1], tokenizer.eos_token_id]


class FixedRollouts:
    """Mix-in for a trainer that, instead of generating, looks completions up, so that batches can be compared."""

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations):
        completions = [
            fixed_completion(prompt, index % num_generations, self.processing_class)
            for index, prompt in enumerate(prompt_ids)
        ]
        return completions, None


class FixedRLOOTrainer(FixedRollouts, RLOOTrainer):
    def _generate_single_turn(self, prompt_ids, images, multimodal_fields):
        return super()._generate_single_turn(prompt_ids, images, multimodal_fields, self.num_generations)[0]


class FixedCovGRPOTrainer(FixedRollouts, CovGRPOTrainer):
    pass


class FixedGRPOTrainer(FixedRollouts, GRPOTrainer):
    pass


SETTINGS = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "steps_per_generation": 4,
    "num_generations": 4,
    "max_completion_length": LENGTH,
    "learning_rate": 1e-2,
    "max_steps": 4,
    "logging_steps": 1,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "bf16": False,
    "use_cpu": True,
    "dataloader_pin_memory": False,
    "gradient_checkpointing": False,
}


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Settings of a config for a run of a few steps."""
    return {"output_dir": str(tmp_path / "out"), **SETTINGS}


@pytest.fixture
def make(policy, tokenizer, settings) -> Maker:
    """Makes a trainer: ``make(cls=..., config=..., model=..., **settings)``."""

    def make(cls=FixedCovGRPOTrainer, config=CovGRPOConfig, model=None, reward=text_reward, rows=64, **overrides):
        extra = {
            name: overrides.pop(name) for name in ("peft_config", "eval_dataset", "callbacks") if name in overrides
        }
        trainer = cls(
            model=model if model is not None else policy(),
            reward_funcs=reward,
            args=config(**(settings | overrides)),
            train_dataset=numbered_prompts(rows),
            processing_class=tokenizer,
            **extra,
        )
        trainer.remove_callback(PrinterCallback)
        return trainer

    return make


@pytest.fixture
def train(make: Maker) -> Maker:
    """Makes a trainer and trains it at once: making one seeds the generators, so two must not be made before."""

    def train(*args: Any, resume: str | None = None, **kwargs: Any):
        trainer = make(*args, **kwargs)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return train


def history(trainer: GRPOTrainer, ignore: frozenset[str] = frozenset({"step_time"})) -> list[dict[str, Any]]:
    """The logs of the optimizer steps, without what is about time."""
    return [
        {name: value for name, value in entry.items() if name not in ignore}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]


def parameters(trainer: GRPOTrainer) -> dict[str, torch.Tensor]:
    model = trainer.accelerator.unwrap_model(trainer.model)
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.fixture
def batch(make) -> Callable[..., tuple[CovGRPOTrainer, dict[str, Any]]]:
    """Makes a trainer and a scored rollout of its, whole, whose sampling policy differs from the current one."""

    def scored(**overrides: Any) -> tuple[CovGRPOTrainer, dict[str, Any]]:
        trainer = make(per_device_train_batch_size=32, steps_per_generation=1, num_iterations=2, **overrides)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = 1
        rows = [trainer.train_dataset[row // 4] for row in range(32)]
        generate = trainer._generate_and_score_completions
        drawn = torch.Generator().manual_seed(5)
        forward = GRPOTrainer._get_per_token_logps_and_entropies

        def drifted(self, *args, **kwargs):
            log_probs, *rest = forward(self, *args, **kwargs)
            if args[0] is not self.model:
                return log_probs, *rest
            noise = 0.5 * torch.randn(log_probs.shape, generator=drawn)
            return log_probs + noise, *rest

        # The old log-probabilities come from another policy than the one whose loss is taken.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", drifted)
            scored_rollout = generate(rows)
        return trainer, scored_rollout

    return scored
