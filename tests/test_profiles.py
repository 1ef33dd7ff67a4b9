"""Profiles: those that ship, and what a bad file is answered with."""

from pathlib import Path

import pytest

import repro.profiles
from repro.errors import ConfigError
from repro.profiles import load_profile, profile_names
from repro.runs import RunConfig

GOOD = """\
description: Two arms.
base: s
seeds: [3, 5]
run:
  steps: 8
  trainer: {beta: 0.1, mask_truncated_completions: true}
arms:
  grpo: {}
  bare:
  high: {epsilon_high: 0.28, steps: 16, trainer: {beta: 0.2}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "profiles").mkdir()
    monkeypatch.setattr(repro.profiles, "configs_dir", lambda: tmp_path)
    (tmp_path / "profiles" / "two.yaml").write_text(GOOD)
    return tmp_path / "profiles"


@pytest.mark.parametrize("name", ["smoke", "cpu", "gpu", "colab", "paper"])
def test_profiles_that_ship(name):
    profile = load_profile(name)
    assert profile.name == name and profile.description and "grpo" in profile.arms
    configs = profile.all_configs()
    assert len(configs) == len(profile.arms) * len(profile.seeds) == len(set(configs))
    assert {config.base for config in configs} == {profile.base}


def test_claims_of_the_study_have_seeds_enough():
    assert len(load_profile("cpu").seeds) >= 3 and len(load_profile("smoke").seeds) >= 2
    assert profile_names() == ["colab", "cpu", "gpu", "paper", "smoke"]


def test_configs_join_the_common_fields_with_the_arms(folder):
    profile = load_profile("two")
    assert profile.seeds == (3, 5)
    assert profile.configs("grpo") == profile.all_configs()[:2]
    assert profile.configs("grpo", [7]) == [
        RunConfig(base="s", seed=7, arm="grpo", steps=8, trainer={"beta": 0.1, "mask_truncated_completions": True})
    ]
    assert profile.configs("high")[1] == RunConfig(
        base="s",
        seed=5,
        arm="high",
        steps=16,
        epsilon_high=0.28,
        trainer={"beta": 0.2, "mask_truncated_completions": True},
    )
    assert [config.arm for config in profile.all_configs()] == ["grpo", "grpo", "bare", "bare", "high", "high"]


def test_unknown_names_list_the_known_ones(folder):
    with pytest.raises(ConfigError, match="^profile 'three' is unknown; the profiles are two$"):
        load_profile("three")
    with pytest.raises(ConfigError, match="^arm 'kl' is not in profile 'two'; its arms are grpo, bare, high$"):
        load_profile("two").configs("kl")
    with pytest.raises(ConfigError, match="unknown"):
        load_profile("../profiles/two")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("base: s", "base: 3", r"base=3 \(int\) is not allowed; it must be text"),
        ("base: s", "bases: s", r"key 'bases' is unknown; the keys are description, base, seeds, arms, run"),
        ("base: s\n", "", r"key 'base' is missing"),
        ("[3, 5]", "3", r"seeds=3 \(int\) is not allowed; it must be a list"),
        ("[3, 5]", "[]", r"seeds is empty"),
        ("[3, 5]", "[true]", r"seeds=True \(bool\) is not allowed; it must be an integer of at least 0"),
        ("[3, 5]", "[3, -5]", r"seeds has -5; it must be an integer of at least 0"),
        ("[3, 5]", "[3, 3]", r"seeds=\[3, 3\] names a seed twice"),
        ("steps: 8", "steps: -8", r"\(arm grpo\): steps=-8 \(int\) is not allowed; it must be an integer of at least"),
        ("steps: 8", "stepz: 8", r"\(arm grpo\): 'stepz' is no field of a run; the fields are base, "),
        ("steps: 8", "seed: 8", r"run.seed is set elsewhere"),
        ("{beta: 0.1, mask_truncated_completions: true}", "3", r"trainer=3 \(int\) is not allowed"),
        ("steps: 16", "arm: kl", r"arms.high.arm is set elsewhere"),
        ("grpo: {}", "grpo: [1]", r"arms.grpo=\[1\] \(list\) is not allowed; it must be a mapping"),
        ("grpo: {}", "3: {}", r"arms=3 \(int\) is not allowed; it must be text"),
        ("grpo: {}", "a b: {}", r"arm='a b' \(str\) is not allowed"),
        ("base: s", "base: [", r"not YAML"),
        (GOOD, "- 1", r"holds list, but must map description, base, seeds, arms, run to values"),
        (GOOD, "", r"holds NoneType"),
    ],
)
def test_bad_file_is_named_with_key_and_value(folder, old, new, message):
    path = folder / "two.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=message) as error:
        load_profile("two")
    assert str(error.value).startswith(str(path))
