"""What the config refuses and how it says so, and the published settings."""

import re

import pytest
from trl import GRPOConfig

from repro.errors import ConfigError
from repro.trainer import PRESETS, CovGRPOConfig, CovGRPOTrainer

from .conftest import numbered_prompts, text_reward

ON_POLICY = {"steps_per_generation": 1}
ADAPTIVE = {"entropy_control": "kl_cov", "kl_cov_adaptive": True}
REFUSED = [
    # likely mistakes: settings, and what the message must name
    ({"entropy_control": "klcov"}, "entropy_control='klcov' is unknown: choose one of none, clip_cov, kl_cov"),
    ({"entropy_control_scope": "batch"}, "entropy_control_scope='batch'.*rollout, step, micro"),
    ({"ratio_clip": "ppo"}, "ratio_clip='ppo'.*method, epsilon, none"),
    ({"advantage_estimator": "gae"}, r"advantage_estimator='gae'.*grpo, rloo, reinforce\+\+, prime"),
    (
        {"entropy_control": "kl_cov", "entropy_control_fraction": 0.2},
        "entropy_control_fraction=0.2 is 20% of the tokens.*for 0.2 % pass 0.002, or set allow_large_fraction=True",
    ),
    ({"entropy_control_fraction": -0.1}, "entropy_control_fraction=-0.1: pass a fraction"),
    ({"entropy_control_fraction": 2}, "entropy_control_fraction=2: pass a fraction of the tokens between 0 and 1"),
    ({"clip_cov_low": 5.0, "clip_cov_high": 1.0}, "clip_cov_low=5.0 is not under clip_cov_high=1.0"),
    ({"clip_cov_low": 1.0, "clip_cov_high": 1.0}, "clip_cov_low=1.0 is not under clip_cov_high=1.0"),
    ({"kl_cov_coef": -1.0}, "kl_cov_coef=-1.0 is negative"),
    ({"epsilon": -0.2}, "epsilon=-0.2 is negative"),
    ({"epsilon_high": -0.2}, "epsilon_high=-0.2 is negative"),
    ({"beta": -0.1}, "beta=-0.1 is negative"),
    ({"entropy_coef": -0.1}, "entropy_coef=-0.1 is negative"),
    ({"temperature": 0.0}, "temperature=0.0: pass a positive number"),
    ({"prime_beta": 0.0}, "prime_beta=0.0: pass a positive number"),
    ({"prime_learning_rate": -1e-6}, "prime_learning_rate=-1e-06: pass a positive number"),
    ({"entropy_control_minimum": -1}, "entropy_control_minimum=-1: pass a whole number"),
    ({"entropy_control_minimum": 1.5}, "entropy_control_minimum=1.5: pass a whole number"),
    ({"token_sample_every": True}, "token_sample_every=True: pass a whole number"),
    (
        {"entropy_control": "kl_cov", **ON_POLICY},
        "entropy_control='kl_cov' does nothing here: with steps_per_generation=1, num_iterations=1 and "
        "gradient_accumulation_steps=1 every update is on-policy.*set steps_per_generation to 2 or "
        "more .*or num_iterations to 2 or more",
    ),
    (
        {"entropy_control": "kl_cov", "steps_per_generation": 2, "gradient_accumulation_steps": 4},
        "does nothing here.*steps_per_generation to 8 or more, a multiple of 4 .*8 updates per rollout: 32",
    ),
    ({"entropy_control_tokens": "rare"}, "entropy_control_tokens='rare'.*covariance, random, .*, rare_failing"),
    (
        {"entropy_control": "clip_cov", "entropy_control_tokens": "random"},
        "entropy_control_tokens='random'.*entropy_control is 'clip_cov'.*set entropy_control='kl_cov'",
    ),
    ({"entropy_control_tokens": "rare_failing"}, "entropy_control_tokens='rare_failing'.*entropy_control is 'none'"),
    ({"kl_cov_adaptive": True}, "kl_cov_adaptive=True.*entropy_control is 'none': set entropy_control='kl_cov'"),
    ({"entropy_control": "clip_cov", "kl_cov_adaptive": True}, "entropy_control is 'clip_cov'"),
    (ADAPTIVE | {"use_adaptive_entropy": True}, "use_adaptive_entropy=True both steer.*unset one of them"),
    (ADAPTIVE | {"entropy_target": 0.0}, "entropy_target=0.0: pass a positive number with kl_cov_adaptive"),
    (ADAPTIVE | {"kl_cov_gain": 0.0}, "kl_cov_gain=0.0: pass a positive number"),
    (ADAPTIVE | {"kl_cov_coef_min": 0.0}, "kl_cov_coef_min=0.0: pass a positive number"),
    (ADAPTIVE | {"kl_cov_coef_min": 2.0, "kl_cov_coef_max": 0.5}, "kl_cov_coef_min=2.0 and kl_cov_coef_max=0.5"),
    (ADAPTIVE | {"kl_cov_coef": 0.0}, "kl_cov_coef=0.0 is not between kl_cov_coef_min=.* starts at kl_cov_coef"),
    (
        {"entropy_control": "clip_cov", "loss_type": "cispo"},
        "entropy_control='clip_cov' is not defined for loss_type='cispo'.*dapo, grpo, bnpo, dr_grpo",
    ),
    (
        {"entropy_control": "clip_cov", "importance_sampling_level": "sequence"},
        "importance_sampling_level='sequence'.*set it to 'token'",
    ),
    (
        {"entropy_control": "kl_cov", "delta": 4.0},
        "delta=4.0 bounds the ratio.*unset delta, or set ratio_clip='epsilon'",
    ),
    ({"use_liger_kernel": True}, "use_liger_kernel=True.*use_kernels"),
    (
        {"entropy_control": "clip_cov", "entropy_control_scope": "step", "gradient_accumulation_steps": 3},
        "gradient_accumulation_steps=3 does not divide steps_per_generation x num_iterations = 4",
    ),
    (
        {"advantage_estimator": "rloo", "scale_rewards": "batch"},
        "scale_rewards='batch' is for advantage_estimator='grpo'",
    ),
    (
        {"advantage_estimator": "prime", "multi_objective_aggregation": "normalize_then_sum"},
        "multi_objective_aggregation='normalize_then_sum'.*'sum_then_normalize' with 'prime'",
    ),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED)
def test_refuses(settings, overrides, message):
    with pytest.raises(ConfigError, match=message):
        CovGRPOConfig(**(settings | overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        {"entropy_control": "kl_cov", "entropy_control_fraction": 0.05},
        {"entropy_control": "kl_cov", "entropy_control_fraction": 0.2, "allow_large_fraction": True},
        {"entropy_control": "kl_cov", "steps_per_generation": 1, "num_iterations": 2},
        {"entropy_control": "kl_cov", "delta": 4.0, "ratio_clip": "epsilon"},
        {"entropy_control": "clip_cov", **ON_POLICY},
        {"entropy_control": "clip_cov", "entropy_control_scope": "micro", "gradient_accumulation_steps": 3},
        {"entropy_control": "none", "loss_type": "cispo", "importance_sampling_level": "sequence"},
        {"entropy_control": "kl_cov", "kl_cov_coef": 0.0},
        {"entropy_control": "kl_cov", "entropy_target": 0.0, "kl_cov_gain": 0.0, "use_adaptive_entropy": True},
        ADAPTIVE | {"entropy_control_tokens": "random", "kl_cov_coef": 0.5, "kl_cov_coef_min": 0.5},
    ],
)
def test_accepts(settings, overrides):
    CovGRPOConfig(**(settings | overrides))


def test_fraction_is_the_papers_by_default(settings):
    assert CovGRPOConfig(**settings, entropy_control="clip_cov").entropy_control_fraction == 0.0002
    assert CovGRPOConfig(**settings, entropy_control="kl_cov").entropy_control_fraction == 0.002
    assert CovGRPOConfig(**settings).entropy_control_fraction is None


def test_warns_of_clip_higher_on_policy(settings):
    with pytest.warns(UserWarning, match=r"epsilon_high=0.28 has no effect.*steps_per_generation=1.*ratio is always 1"):
        CovGRPOConfig(**settings | ON_POLICY, epsilon_high=0.28)


def test_trainer_wants_its_config(policy, tokenizer, settings):
    with pytest.raises(ConfigError, match="args is a GRPOConfig: pass a CovGRPOConfig"):
        CovGRPOTrainer(
            policy(),
            text_reward,
            args=GRPOConfig(**settings),
            train_dataset=numbered_prompts(),
            processing_class=tokenizer,
        )


# Section 4.3 and the authors' scripts: control, fraction, learning rate, clip range.
PUBLISHED = {
    "grpo-7b": ("none", None, 5e-7, (0.2, 0.2)),
    "grpo-32b": ("none", None, 1e-6, (0.2, 0.2)),
    "clip-higher-7b": ("none", None, 5e-7, (0.2, 0.28)),
    "clip-higher-32b": ("none", None, 1e-6, (0.2, 0.28)),
    "clip-cov-7b": ("clip_cov", 0.0002, 5e-7, (1.0, 1.0)),
    "clip-cov-32b": ("clip_cov", 0.0002, 1e-6, (1.0, 1.0)),
    "kl-cov-7b": ("kl_cov", 0.002, 5e-7, (float("inf"), float("inf"))),
    "kl-cov-32b": ("kl_cov", 0.0002, 1e-6, (float("inf"), float("inf"))),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_the_published_settings(settings, name):
    hardware = {key: settings[key] for key in ("output_dir", "use_cpu", "bf16", "report_to", "gradient_checkpointing")}
    config = CovGRPOConfig.preset(name, per_device_train_batch_size=32, gradient_accumulation_steps=8, **hardware)
    control, fraction, learning_rate, clip_range = PUBLISHED[name]
    assert (config.entropy_control, config.entropy_control_fraction) == (control, fraction)
    assert (config.learning_rate, config.clip_range) == (learning_rate, clip_range)
    assert (config.clip_cov_low, config.clip_cov_high, config.kl_cov_coef) == (1.0, 5.0, 1.0)
    assert config.generation_batch_size == 2048 and config.num_generations == 8
    assert config.updates_from == 8 * config.gradient_accumulation_steps
    assert all(re.search(r"section|scripts|Eq\.|Listing", setting.source) for setting in PRESETS[name].values())


def test_presets_can_be_overridden_and_are_all_checked(settings):
    few = {key: settings[key] for key in ("output_dir", "use_cpu", "bf16", "report_to", "gradient_checkpointing")}
    assert CovGRPOConfig.preset("kl-cov-7b", kl_cov_coef=0.5, **few).kl_cov_coef == 0.5
    with pytest.raises(ConfigError, match="preset 'kl_cov_7b' is unknown: choose one of grpo-7b"):
        CovGRPOConfig.preset("kl_cov_7b")
    assert set(PRESETS) == set(PUBLISHED)
