"""From a run's config to its trainer's."""

import difflib
from dataclasses import fields

import torch

from repro.errors import ConfigError
from repro.runs import ranks
from repro.runs.config import RunConfig
from repro.seeds import derive_seed
from repro.trainer import CovGRPOConfig

TOKEN_SAMPLES = 12
"""How often in a run a sample of tokens is kept, at even distances from the first step on."""

SAMPLER_FIELDS = {
    **dict.fromkeys(("top_p", "top_k", "min_p", "repetition_penalty", "generation_kwargs"), ("trl", "vllm")),
    **dict.fromkeys(
        ("cache_implementation", "use_transformers_continuous_batching", "use_transformers_paged"), ("trl",)
    ),
    **{field.name: ("vllm",) for field in fields(CovGRPOConfig) if field.name.startswith("vllm_")},
}
"""Fields of TRL's samplers, each with those that read it; the run's own draws from the policy's own distribution."""


def trainer_config(config: RunConfig, output_dir: str) -> CovGRPOConfig:
    """The trainer's configuration for a run: constant learning rate and no weight decay, as the authors' scripts.

    Raises:
        ConfigError: when ``config.trainer`` names a field that is unknown, one that the run's own fields decide, or one
            of a sampler that is not used.
    """
    sequences = config.prompts_per_rollout * config.num_generations
    decided = {
        "output_dir": output_dir,
        "seed": derive_seed("training", config.seed),
        "data_seed": derive_seed("data order", config.seed),
        "max_steps": config.max_steps,
        "per_device_train_batch_size": sequences // config.steps_per_generation,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "steps_per_generation": config.steps_per_generation,
        "num_generations": config.num_generations,
        "max_completion_length": config.max_completion_length,
        "temperature": config.temperature,
        "learning_rate": config.learning_rate,
        "epsilon": config.epsilon,
        "epsilon_high": config.epsilon_high,
        "scale_rewards": config.scale_rewards,
        "use_vllm": config.sampler == "vllm",
        "logging_steps": 1,
        "save_strategy": "no",
        # Its callbacks are the run's own.
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "token_sample_every": max(1, config.max_steps // TOKEN_SAMPLES),
        "token_sample_size": sequences // config.updates_per_rollout,
    }
    if ranks.several():
        decided["per_device_train_batch_size"] = ranks.share(config, sequences // config.steps_per_generation)
    defaults = {
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "beta": 0.0,
        "loss_type": "dapo",
        "activation_checkpointing": False,
        "bf16": False,
    }
    known = {field.name for field in fields(CovGRPOConfig) if field.init}
    for name in config.trainer:
        if name in decided:
            raise ConfigError(f"trainer field {name!r} is decided by the run's own fields; remove it from `trainer`")
        readers = SAMPLER_FIELDS.get(name, (config.sampler,))
        if config.sampler not in readers:
            raise ConfigError(
                f"trainer field {name!r} would do nothing with sampler={config.sampler!r}; remove it, or set sampler "
                f"to {' or '.join(map(repr, readers))}"
            )
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ", which has TRL's GRPOConfig's fields and its own"
            raise ConfigError(f"trainer field {name!r} is not one of CovGRPOConfig{hint}")
    return CovGRPOConfig(**(defaults | dict(config.trainer) | decided))
