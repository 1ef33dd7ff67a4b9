"""Defaults, the published settings, and the way through TRL's parser and YAML."""

import re

import pytest
import yaml
from trl import TrlParser

from repro.trainer import PRESETS, CovGRPOConfig
from repro.trainer.config import own_fields
from repro.trainer.settings import rules


def test_fraction_is_the_papers_by_default(settings):
    assert CovGRPOConfig(**settings, entropy_control="clip_cov").entropy_control_fraction == 0.0002
    assert CovGRPOConfig(**settings, entropy_control="kl_cov").entropy_control_fraction == 0.002
    assert CovGRPOConfig(**settings).entropy_control_fraction is None


def test_help_of_the_command_line_prints(capsys):
    with pytest.raises(SystemExit) as stop:
        TrlParser((CovGRPOConfig,)).parse_args_and_config(["--help"])
    assert stop.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "--kl_cov_coef" in printed and "(0.002 is 0.2 %)" in printed


# A value of each field beyond TRL's that is not its default.
OTHER = {
    "entropy_control": "kl_cov",
    "entropy_control_fraction": 0.004,
    "entropy_control_minimum": 2,
    "entropy_control_budget": "gradient",
    "entropy_control_scope": "micro",
    "entropy_control_tokens": "random",
    "clip_cov_low": 0.5,
    "clip_cov_high": 4.5,
    "kl_cov_coef": 2.5,
    "kl_cov_adaptive": True,
    "kl_cov_gain": 0.25,
    "kl_cov_coef_min": 0.125,
    "kl_cov_coef_max": 50.0,
    "ratio_clip": "epsilon",
    "allow_large_fraction": True,
    "advantage_estimator": "prime",
    "prime_beta": 0.1,
    "prime_learning_rate": 2e-6,
    "filter_groups": True,
    "filter_groups_max_attempts": 3,
    "token_sample_every": 3,
    "token_sample_size": 7,
}


@pytest.mark.filterwarnings("ignore:clip_cov_.* is a setting of Clip-Cov:UserWarning")
@pytest.mark.filterwarnings("ignore:entropy_control_minimum=2 has no effect:UserWarning")
@pytest.mark.parametrize("by", ["command line", "yaml"])
def test_every_field_goes_through_trls_parser(settings, tmp_path, by):
    assert set(OTHER) == {field.name for field in own_fields()}
    assert all(OTHER[field.name] != field.default for field in own_fields())
    values = settings | OTHER
    if by == "yaml":
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(values))
        arguments = ["--config", str(path)]
    else:
        arguments = [part for name, value in values.items() for part in (f"--{name}", str(value))]
    (config,) = TrlParser((CovGRPOConfig,)).parse_args_and_config(arguments)
    for name, value in OTHER.items():
        assert getattr(config, name) == value and type(getattr(config, name)) is type(value), name
    again = yaml.safe_load(yaml.safe_dump({name: config.to_dict()[name] for name in OTHER}))
    assert again == OTHER


def test_every_field_of_ours_is_documented_and_has_a_rule():
    for field in own_fields():
        assert field.metadata["help"].endswith(".") and field.name in rules(CovGRPOConfig), field.name


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


def test_presets_can_be_overridden(settings):
    few = {key: settings[key] for key in ("output_dir", "use_cpu", "bf16", "report_to", "gradient_checkpointing")}
    config = CovGRPOConfig.preset("kl-cov-7b", kl_cov_coef=0.5, per_device_train_batch_size=256, **few)
    assert config.kl_cov_coef == 0.5
    assert set(PRESETS) == set(PUBLISHED)
