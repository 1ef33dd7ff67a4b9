"""Likely mistakes: each is refused before a model is loaded, naming value and remedy, or accepted with a warning."""

import dataclasses
import math
import re
import warnings

import numpy as np
import pytest
from trl import GRPOConfig

from repro.errors import ConfigError, ReproError
from repro.trainer import CovGRPOConfig, CovGRPOTrainer
from repro.trainer import trainer as trainer_module

from .conftest import FixedGRPOTrainer, numbered_prompts, text_reward

KL_COV = {"entropy_control": "kl_cov"}
CLIP_COV = {"entropy_control": "clip_cov"}
GRADIENT = KL_COV | {"entropy_control_budget": "gradient", "entropy_control_fraction": 0.08}
ADAPTIVE = KL_COV | {"kl_cov_adaptive": True}
ON_POLICY = {"steps_per_generation": 1}
LONG = {"max_completion_length": 512}

# Settings, and what the message must say.
REFUSED = [
    # names
    ({"entropy_control": "klcov"}, "entropy_control='klcov' is unknown: choose one of none, clip_cov, kl_cov"),
    ({"entropy_control": None}, "entropy_control=None is unknown: choose one of none, clip_cov, kl_cov"),
    ({"entropy_control": ["kl_cov"]}, r"entropy_control=\['kl_cov'\] is unknown"),
    ({"entropy_control_scope": "batch"}, "entropy_control_scope='batch'.*rollout, step, micro"),
    ({"entropy_control_tokens": "rare"}, "entropy_control_tokens='rare'.*method, covariance, random, .*, steer"),
    ({"ratio_clip": "ppo"}, "ratio_clip='ppo'.*method, epsilon, none"),
    ({"ratio_clip": False}, "ratio_clip=False is unknown: choose one of method, epsilon, none"),
    ({"advantage_estimator": "gae"}, r"advantage_estimator='gae'.*grpo, rloo, reinforce\+\+, prime"),
    # fractions
    (
        KL_COV | LONG | {"entropy_control_fraction": 0.2},
        "entropy_control_fraction=0.2 is 20 % of the tokens, up to 3277 of the 16384 tokens of 32 responses of 512 .*"
        "for 0.2 % pass 0.002, or set allow_large_fraction=True",
    ),
    (KL_COV | {"entropy_control_fraction": 0}, "entropy_control_fraction=0: pass a fraction .* entropy_control='none'"),
    (KL_COV | {"entropy_control_fraction": -0.1}, "entropy_control_fraction=-0.1: pass a fraction"),
    (KL_COV | {"entropy_control_fraction": 2}, "entropy_control_fraction=2: pass a fraction of the tokens over 0 and"),
    (KL_COV | {"entropy_control_fraction": "0.002"}, "entropy_control_fraction='0.002' is text.*without quotes"),
    (KL_COV | {"entropy_control_fraction": True}, "entropy_control_fraction=True: pass a fraction"),
    (KL_COV | {"entropy_control_fraction": math.nan}, "entropy_control_fraction=nan: pass a fraction"),
    (KL_COV | {"entropy_control_minimum": -1}, "entropy_control_minimum=-1: pass a whole number, 0 or more"),
    (KL_COV | {"entropy_control_minimum": 1.5}, "entropy_control_minimum=1.5: pass a whole number"),
    (KL_COV | {"entropy_control_minimum": None}, "entropy_control_minimum=None: pass a whole number"),
    (
        KL_COV | {"allow_large_fraction": "yes"},
        "allow_large_fraction='yes' is text: pass True or False",
    ),
    # Clip-Cov
    (CLIP_COV | {"clip_cov_low": "1"}, "clip_cov_low='1' is text: pass a number, without quotes"),
    (CLIP_COV | {"clip_cov_high": math.nan}, "clip_cov_high=nan: pass a number"),
    (CLIP_COV | {"clip_cov_low": 5.0, "clip_cov_high": 1.0}, "clip_cov_low=5.0 is not under clip_cov_high=1.0"),
    (CLIP_COV | {"clip_cov_low": 1.0, "clip_cov_high": 1.0}, "clip_cov_low=1.0 is not under clip_cov_high=1.0"),
    (
        {"entropy_control_tokens": "rare_failing"},
        "entropy_control_tokens='rare_failing' names other tokens than a method's own, and entropy_control='none' "
        "takes none: set entropy_control to 'clip_cov' or 'kl_cov', or leave it at 'method'",
    ),
    # a share of gradient
    (KL_COV | {"entropy_control_budget": "grad"}, "entropy_control_budget='grad' is unknown: .* tokens, gradient"),
    (
        {"entropy_control_budget": "gradient"},
        "entropy_control_budget='gradient' is of a selection, and entropy_control='none' makes none: set .*'tokens'",
    ),
    (
        KL_COV | {"entropy_control_budget": "gradient"},
        r"has no published fraction: set entropy_control_fraction to the share of the policy gradient.*0.08 is 8 %",
    ),
    (GRADIENT | {"entropy_control_fraction": 0}, "entropy_control_fraction=0: pass a fraction.*entropy_control='none'"),
    (GRADIENT | {"entropy_control_fraction": 8}, "entropy_control_fraction=8: pass a fraction"),
    (
        GRADIENT | {"loss_type": "grpo"},
        "takes tokens as equal, and loss_type='grpo' weighs .*: set loss_type to 'dapo' or 'dr_grpo'",
    ),
    (GRADIENT | {"loss_type": "bnpo"}, "loss_type='bnpo' weighs"),
    (GRADIENT | {"top_entropy_quantile": 0.2}, "does not know of top_entropy_quantile=0.2.*to its default"),
    (GRADIENT | {"off_policy_mask_threshold": 0.5}, "does not know of off_policy_mask_threshold=0.5"),
    (
        GRADIENT | {"use_vllm": True},
        "does not know of vllm_importance_sampling_correction=True.*set vllm_importance_sampling_correction to False",
    ),
    (
        CLIP_COV | {"entropy_control_scope": "step", "gradient_accumulation_steps": 3},
        "gradient_accumulation_steps=3 does not divide steps_per_generation x num_iterations = 4",
    ),
    # KL-Cov
    (KL_COV | {"kl_cov_coef": -1.0}, "kl_cov_coef=-1.0: pass a number, 0 or more"),
    (KL_COV | {"kl_cov_coef": math.inf}, "kl_cov_coef=inf: pass a number, 0 or more"),
    (KL_COV | {"kl_cov_coef": math.nan}, "kl_cov_coef=nan: pass a number, 0 or more"),
    (KL_COV | {"kl_cov_coef": None}, "kl_cov_coef=None: pass a number"),
    (KL_COV | {"kl_cov_coef": [1.0]}, r"kl_cov_coef=\[1.0\]: pass a number"),
    (KL_COV | {"kl_cov_adaptive": "no"}, "kl_cov_adaptive='no' is text: pass True or False, without quotes"),
    (KL_COV | {"kl_cov_adaptive": 1}, "kl_cov_adaptive=1: pass True or False"),
    ({"kl_cov_adaptive": True}, "kl_cov_adaptive=True is a setting of KL-Cov, and entropy_control='none'"),
    (CLIP_COV | {"kl_cov_adaptive": True}, "entropy_control='clip_cov': set entropy_control='kl_cov', or leave it at"),
    (ADAPTIVE | {"use_adaptive_entropy": True}, "use_adaptive_entropy=True both steer.*unset one of them"),
    (ADAPTIVE | {"entropy_target": 0.0}, "entropy_target=0.0: pass a number above 0"),
    (ADAPTIVE | {"kl_cov_gain": 0.0}, "kl_cov_gain=0.0: pass a number above 0"),
    (ADAPTIVE | {"kl_cov_coef_min": 0.0}, "kl_cov_coef_min=0.0: pass a number above 0"),
    (ADAPTIVE | {"kl_cov_coef_min": 2.0, "kl_cov_coef_max": 0.5}, "kl_cov_coef_min=2.0 and kl_cov_coef_max=0.5"),
    (ADAPTIVE | {"kl_cov_coef": 0.0}, "kl_cov_coef=0.0 is not between kl_cov_coef_min=.* starts at kl_cov_coef"),
    (
        KL_COV | ON_POLICY,
        "entropy_control='kl_cov' does nothing here: with steps_per_generation=1, num_iterations=1 and",
    ),
    (KL_COV | {"gradient_accumulation_steps": 4}, "every update is on-policy.*take entropy_control='clip_cov'"),
    # what TRL would accept
    ({"learning_rate": "1e-6"}, r"learning_rate='1e-6' is text: pass .* \(YAML reads 1e-6 as text and 1.0e-6 as a"),
    ({"learning_rate": math.nan}, "learning_rate=nan: pass a number"),
    ({"epsilon": -0.2}, "epsilon=-0.2: pass a number, 0 or more, or None"),
    ({"epsilon_high": "0.28"}, "epsilon_high='0.28' is text: pass a number"),
    ({"beta": -0.1}, "beta=-0.1: pass a number, 0 or more"),
    ({"entropy_coef": -0.1}, "entropy_coef=-0.1: pass a number, 0 or more"),
    ({"temperature": 0.0}, "temperature=0.0: pass a number above 0"),
    ({"num_iterations": 0}, "num_iterations=0: pass a whole number, 1 or more"),
    ({"steps_per_generation": 0}, "steps_per_generation=0: pass a whole number, 1 or more"),
    ({"num_generations": 1}, "num_generations=1: pass a whole number, 2 or more"),
    ({"top_entropy_quantile": 20}, "top_entropy_quantile=20: pass a number between 0 and 1"),
    # combinations
    (
        CLIP_COV | {"loss_type": "cispo"},
        "entropy_control='clip_cov' is not defined for loss_type='cispo'.*dapo, grpo, bnpo, dr_grpo",
    ),
    (CLIP_COV | {"importance_sampling_level": "sequence"}, "importance_sampling_level='sequence'.*set it to 'token'"),
    (KL_COV | {"delta": 4.0}, "delta=4.0 bounds the ratio.*unset delta, or set ratio_clip='epsilon'"),
    ({"use_liger_kernel": True}, "use_liger_kernel=True.*use_kernels"),
    (
        {"advantage_estimator": "rloo", "scale_rewards": "batch"},
        "scale_rewards='batch' is for advantage_estimator='grp",
    ),
    (
        {"advantage_estimator": "prime", "multi_objective_aggregation": "normalize_then_sum"},
        "multi_objective_aggregation='normalize_then_sum'.*'sum_then_normalize' with 'prime'",
    ),
    ({"advantage_estimator": "prime", "prime_beta": 0.0}, "prime_beta=0.0: pass a number above 0"),
    ({"advantage_estimator": "prime", "prime_learning_rate": -1e-6}, "prime_learning_rate=-1e-06: pass a number above"),
    ({"filter_groups": "yes"}, "filter_groups='yes' is text: pass True or False, without quotes"),
    ({"filter_groups": True, "filter_groups_max_attempts": 0}, "filter_groups_max_attempts=0: pass a whole number, 1"),
    ({"token_sample_every": True}, "token_sample_every=True: pass a whole number"),
]
WARNED = [
    (
        KL_COV | LONG | {"entropy_control_fraction": 0.02},
        "entropy_control_fraction=0.02 is 2 % of the tokens, up to 328 of the 16384 .*for 0.02 % pass 0.0002",
    ),
    (
        GRADIENT | {"entropy_control_minimum": 2},
        "entropy_control_minimum=2 has no effect: a share of gradient takes a token wherever there is gradient",
    ),
    (
        CLIP_COV | {"entropy_control_tokens": "random", "clip_cov_low": 0.5},
        "clip_cov_low=0.5 has no effect with entropy_control_tokens='random': the band is of .*'method'",
    ),
    ({"kl_cov_coef": 5.0}, "kl_cov_coef=5.0 is a setting of KL-Cov.*no effect: set entropy_control='kl_cov'"),
    (KL_COV | {"clip_cov_low": 0.5}, "clip_cov_low=0.5 is a setting of Clip-Cov.*no effect: set entropy_control='clip"),
    (
        {"entropy_control_fraction": 0.002},
        "entropy_control_fraction=0.002 has no effect: set entropy_control to 'cl",
    ),
    (
        {"entropy_control_minimum": 0},
        "entropy_control_minimum=0 has no effect: set entropy_control to 'clip_cov' or",
    ),
    ({"entropy_control_scope": "step"}, "entropy_control_scope='step' has no effect: set entropy_control"),
    (KL_COV | {"kl_cov_gain": 0.1}, "kl_cov_gain=0.1 has no effect: set kl_cov_adaptive=True"),
    (KL_COV | {"kl_cov_coef_max": 10.0}, "kl_cov_coef_max=10.0 has no effect: set kl_cov_adaptive=True"),
    (KL_COV | {"entropy_target": 0.5}, "entropy_target=0.5 has no effect: set kl_cov_adaptive=True"),
    (
        KL_COV | {"epsilon_high": 0.28},
        "epsilon_high=0.28 has no effect: ratio_clip='method' with entropy_control='kl_cov' does not read it, so set "
        "ratio_clip='epsilon'",
    ),
    (CLIP_COV | {"epsilon": 0.1}, "epsilon=0.1 has no effect: ratio_clip='method' with entropy_control='clip_cov'"),
    ({"ratio_clip": "none", "epsilon_high": 0.28}, "epsilon_high=0.28 has no effect: ratio_clip='none'"),
    (
        ON_POLICY | {"epsilon_high": 0.28},
        "epsilon_high=0.28 has no effect.*steps_per_generation=1.*ratio is always 1; set steps_per_generation to 2 or",
    ),
    ({"prime_learning_rate": 1e-5}, "prime_learning_rate=1e-05 has no effect: set advantage_estimator='prime'"),
    ({"filter_groups_max_attempts": 3}, "filter_groups_max_attempts=3 has no effect: set filter_groups=True"),
    ({"token_sample_size": 8}, "token_sample_size=8 has no effect: set token_sample_every to 1 or more"),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED)
def test_refuses(settings, overrides, message):
    with pytest.raises(ConfigError, match=message) as caught:
        CovGRPOConfig(**(settings | overrides))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("overrides", "message"), WARNED)
def test_warns(settings, overrides, message):
    with pytest.warns(UserWarning, match=message) as caught:
        CovGRPOConfig(**(settings | overrides))
    assert [warning.category for warning in caught].count(UserWarning) == 1


def test_there_are_fifty():
    assert len(REFUSED) + len(WARNED) >= 50


@pytest.mark.parametrize(
    "overrides",
    [
        KL_COV | {"entropy_control_fraction": 0.05},
        KL_COV | LONG | {"entropy_control_fraction": 0.2, "allow_large_fraction": True},
        KL_COV | LONG | {"entropy_control_fraction": 0.002},
        KL_COV | {"steps_per_generation": 1, "num_iterations": 2},
        KL_COV | {"delta": 4.0, "ratio_clip": "epsilon", "epsilon_high": 0.28},
        KL_COV | {"kl_cov_coef": 0.0},
        KL_COV | {"kl_cov_coef": np.float32(0.5), "entropy_control_minimum": np.int64(2)},
        KL_COV | {"entropy_target": 0.0, "use_adaptive_entropy": True},
        ADAPTIVE | {"entropy_control_tokens": "random", "kl_cov_coef": 0.5, "kl_cov_coef_min": 0.5},
        CLIP_COV | ON_POLICY,
        CLIP_COV | {"entropy_control_tokens": "random"},
        CLIP_COV | {"entropy_control_tokens": "steer", "entropy_control_scope": "step"},
        GRADIENT | LONG | {"entropy_control_fraction": 0.5},
        GRADIENT | {"entropy_control_fraction": 1.0, "loss_type": "dr_grpo"},
        CLIP_COV | {"entropy_control_scope": "micro", "gradient_accumulation_steps": 3},
        CLIP_COV | {"clip_cov_low": -math.inf, "clip_cov_high": math.inf},
        {"loss_type": "cispo", "importance_sampling_level": "sequence"},
        {"epsilon": None},
        {"learning_rate": 0},
    ],
)
def test_accepts_in_silence(settings, overrides):
    CovGRPOConfig(**(settings | overrides))


def test_errors_of_configuration_are_also_value_errors(settings):
    with pytest.raises(ValueError, match="klcov") as caught:
        CovGRPOConfig(**settings, entropy_control="klcov")
    assert isinstance(caught.value, ReproError)


SCHEDULES = [
    {"steps_per_generation": steps, "gradient_accumulation_steps": accumulation, "num_iterations": iterations}
    for accumulation in (1, 2, 3, 4, 6, 8)
    for steps in (1, 2, 3, 4, 8)
    for iterations in (1, 2, 4)
    if accumulation % (steps * iterations) == 0
]


@pytest.mark.parametrize("scope", ["rollout", "step"])
@pytest.mark.parametrize("by_batch_size", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: ",".join(map(str, s.values())))
def test_the_remedies_for_an_on_policy_schedule_work(settings, schedule, scope, by_batch_size):
    """Each of the values that the message names, followed by itself."""
    start = settings | schedule | KL_COV | {"entropy_control_scope": scope}
    if by_batch_size:
        start["generation_batch_size"] = 8 * start.pop("steps_per_generation")
    with pytest.raises(ConfigError, match="does nothing here") as caught:
        CovGRPOConfig(**start)
    message = str(caught.value)
    field = "generation_batch_size" if by_batch_size else "steps_per_generation"
    least, whole = re.search(rf"set {field} to (\d+) \(the paper's 8 updates per rollout: (\d+)\)", message).groups()
    passes = re.search(r"or num_iterations to (\d+)", message)[1]
    for remedy, updates in (({field: int(least)}, 2), ({field: int(whole)}, 8), ({"num_iterations": int(passes)}, 2)):
        config = CovGRPOConfig(**(start | remedy))
        assert config.updates_from == updates * config.gradient_accumulation_steps
    whole_steps = (
        schedule["steps_per_generation"] * schedule["num_iterations"] == schedule["gradient_accumulation_steps"]
    )
    assert message.endswith("or take entropy_control='clip_cov'") == whole_steps
    if whole_steps:
        CovGRPOConfig(**(start | {"entropy_control": "clip_cov"}))


def few(settings):
    return {key: settings[key] for key in ("output_dir", "use_cpu", "bf16", "report_to", "gradient_checkpointing")}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"per_device_train_batch_size": 8},
            "^preset 'kl-cov-7b': 2048 sequences in micro-batches of 8 over all ranks, gradient_accumulation_steps=1 "
            "and num_iterations=1 make 256 updates of a rollout and not the published 8: set "
            "gradient_accumulation_steps=32$",
        ),
        ({"per_device_train_batch_size": 512}, "make 4 updates.*choose per_device_train_batch_size x .* = 256$"),
        (
            {"per_device_train_batch_size": 100},
            r"^preset 'kl-cov-7b': generation_batch_size \(2048\) must be",
        ),
        ({"kl_cov_coef": "1"}, "^preset 'kl-cov-7b': kl_cov_coef='1' is text"),
    ],
)
def test_a_preset_names_itself_and_keeps_its_promise(settings, overrides, message):
    with pytest.raises(ConfigError, match=message):
        CovGRPOConfig.preset("kl-cov-7b", **few(settings), **overrides)


def test_an_unknown_preset():
    with pytest.raises(ConfigError, match="preset 'kl_cov_7b' is unknown: choose one of grpo-7b"):
        CovGRPOConfig.preset("kl_cov_7b")


def test_following_a_presets_remedy(settings):
    config = CovGRPOConfig.preset(
        "kl-cov-7b", per_device_train_batch_size=8, gradient_accumulation_steps=32, **few(settings)
    )
    assert config.updates_from == 8 * 32


def test_a_preset_with_a_schedule_of_ones_own(settings):
    own = few(settings) | {"per_device_train_batch_size": 8}
    config = CovGRPOConfig.preset("kl-cov-7b", steps_per_generation=8, **own)
    assert (config.generation_batch_size, config.updates_from) == (64, 8)
    with pytest.warns(UserWarning, match=r"make 4 updates of a rollout and not the published 8.*unless you mean it"):
        CovGRPOConfig.preset("kl-cov-7b", steps_per_generation=4, **own)


def build(model, args, tokenizer, trainer=CovGRPOTrainer):
    return trainer(model, text_reward, args, train_dataset=numbered_prompts(), processing_class=tokenizer)


def test_another_kind_of_args_is_refused_before_the_model_is_loaded(tokenizer, settings):
    with pytest.raises(ConfigError, match="args is a GRPOConfig: pass a CovGRPOConfig"):
        build("no/such/model", GRPOConfig(**settings), tokenizer)
    with pytest.raises(ConfigError, match="args is a dict: pass a CovGRPOConfig"):
        build("no/such/model", settings, tokenizer)


@dataclasses.dataclass
class OnCPU(CovGRPOConfig):
    """The defaults, for a machine without an accelerator."""

    use_cpu: bool = True
    bf16: bool | None = False
    gradient_checkpointing: bool = False


def test_no_args_are_the_defaults(policy, tokenizer, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer_module, "CovGRPOConfig", OnCPU)
    model = policy()
    model.config._name_or_path = "somebody/Small"
    trainer = build(model, None, tokenizer)
    assert isinstance(trainer.args, CovGRPOConfig)
    assert (trainer.args.output_dir, trainer.args.entropy_control) == ("Small-CovGRPO", "none")


@pytest.mark.parametrize("overrides", [KL_COV, {"ratio_clip": "none"}, {"advantage_estimator": "rloo"}])
def test_warns_of_a_trainer_that_does_not_know_the_config(policy, tokenizer, settings, overrides):
    args = CovGRPOConfig(**settings, **overrides)
    (name, value), *_ = overrides.items()
    with pytest.warns(UserWarning, match=f"{name}='{value}'.* counts in CovGRPOTrainer alone.*use CovGRPOTrainer, or"):
        build(policy(), args, tokenizer, FixedGRPOTrainer)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        build(policy(), CovGRPOConfig(**settings), tokenizer, FixedGRPOTrainer)
