"""Profiles: those that ship, which layer decides a field, and what a bad file is answered with."""

import re
from pathlib import Path

import pytest

import repro.runs.profiles
from repro.errors import ConfigError
from repro.policies.recipes import RECIPES, SHIPPED
from repro.runs import RunConfig
from repro.runs.profiles import load_profile, profile_names
from repro.runs.trainer_config import trainer_config
from repro.trainer.presets import PRESETS

ARMS = """\
main:
  arms:
    grpo: {}
    high: {epsilon_high: 0.28, max_steps: 16, trainer: {beta: 0.2}}
updates:
  run: {rollouts: 5, temperature: 0.9, trainer: {beta: 0.3, top_entropy_quantile: 0.5}}
  arms:
    once: {steps_per_generation: 1}
    twice: {steps_per_generation: 2, trainer: {beta: 0.4}}
rest:
  arms:
    more: {}
"""

GOOD = """\
description: Two groups.
base: s
seeds: [3, 5]
run:
  max_steps: 8
  trainer: {beta: 0.1, mask_truncated_completions: true}
groups:
  updates: {seeds: [0], run: {rollouts: 6, eval_rollouts: 2, learning_rate: 1.0e-3}}
  main: {}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "profiles").mkdir()
    monkeypatch.setattr(repro.runs.profiles, "configs_dir", lambda: tmp_path)
    (tmp_path / "arms.yaml").write_text(ARMS)
    (tmp_path / "profiles" / "two.yaml").write_text(GOOD)
    return tmp_path


@pytest.mark.parametrize("name", ["smoke", "cpu", "cpu-more", "countdown", "gpu", "paper"])
def test_profiles_that_ship(name, tmp_path):
    profile = load_profile(name)
    assert profile.name == name and profile.description and profile.arms
    configs = profile.all_configs()
    assert len(configs) == sum(len(arm.seeds) for arm in profile.arms.values()) == len(set(configs))
    assert {config.base for config in configs} <= {*profile.bases, *SHIPPED} <= set(RECIPES)
    for config in {config.arm: config for config in configs}.values():
        args = trainer_config(config, str(tmp_path))  # the trainer takes it too
        assert args.max_steps % config.updates_per_rollout == 0


ARMS_OF_PRESETS = {"grpo": "grpo8", "clip-higher": "clip_higher", "clip-cov": "clip_cov", "kl-cov": "kl_cov"}


@pytest.mark.parametrize("size", ["7b", "32b"])
@pytest.mark.parametrize("method", ARMS_OF_PRESETS)
def test_the_papers_profiles_have_the_published_settings(size, method, tmp_path):
    (config, *_) = load_profile(f"paper-{size}").configs(ARMS_OF_PRESETS[method])
    assert config.base == f"hub:Qwen/Qwen2.5-{size.upper()}"
    assert (config.policy.template, config.policy.dtype) == ("r1_zero", "float32")
    assert config.updates_per_rollout == 8 and config.eval_steps == 32
    # A machine without a GPU refuses bfloat16.
    args = trainer_config(config.replace(trainer={**config.trainer, "bf16": False}), str(tmp_path))
    expected = {name: one.value for name, one in PRESETS[f"{method}-{size}"].items()}
    assert {name: getattr(args, name) for name in expected} == expected


def test_the_hosted_profile_fits_its_trainer_and_trains_adapters(tmp_path):
    profile = load_profile("colab")
    for arm in profile.arms:
        config = profile.configs(arm)[0]
        assert config.base == "hub:Qwen/Qwen2.5-0.5B-Instruct" and config.task == "gsm8k"
        assert config.policy.lora.r == 32 and config.policy.dtype == "auto" and config.num_generations == 8
        assert trainer_config(config, str(tmp_path)).max_completion_length == 256
        assert config.updates_per_rollout == (1 if profile.arms[arm].group in ("probe", "rate") else 8)


def test_a_profile_may_change_single_arms_and_name_the_papers_bases(folder):
    path = folder / "profiles" / "two.yaml"
    changed = "  main: {arms: {high: {epsilon_high: 0.3, trainer: {beta: 0.5}}}}\n"
    path.write_text(GOOD.replace("base: s", "base: qwen2.5-7b").replace("  main: {}\n", changed))
    profile = load_profile("two")
    high, grpo = profile.configs("high")[0], profile.configs("grpo")[0]
    assert (high.epsilon_high, high.max_steps, high.trainer["beta"]) == (0.3, 16, 0.5)
    assert (grpo.epsilon_high, grpo.trainer["beta"]) == (None, 0.1)
    assert grpo.base == "hub:Qwen/Qwen2.5-7B" and grpo.policy.template == "r1_zero"
    path.write_text(path.read_text().replace("  max_steps: 8\n", "  max_steps: 8\n  policy: {dtype: bfloat16}\n"))
    policy = load_profile("two").configs("grpo")[0].policy
    assert (policy.template, policy.dtype) == ("r1_zero", "bfloat16")
    path.write_text(path.read_text().replace("{high:", "{hihg:"))
    with pytest.raises(
        ConfigError, match=r"groups\.main\.arms: 'hihg' is not an arm of it in arms\.yaml; its arms are"
    ):
        load_profile("two")


def test_seeds_take_several_bases_in_turn(folder):
    path = folder / "profiles" / "two.yaml"
    path.write_text(GOOD.replace("base: s\n", "base: [s, sm]\n"))
    configs = load_profile("two").configs("grpo", [0, 1, 2, 3])
    assert [config.base for config in configs] == ["s", "sm", "s", "sm"]
    path.write_text(GOOD.replace("base: s\n", "base: [s, s]\n"))
    with pytest.raises(ConfigError, match=r"\['s', 's'\] is not allowed; name one base policy, or several that differ"):
        load_profile("two")


def test_a_profile_shows_the_runs_of_another_and_trains_none_of_them(folder):
    (folder / "profiles" / "whole.yaml").write_text(
        "description: More.\nbase: [m, xs]\nseeds: [0, 1]\nshows: [two]\ngroups: {rest: {}}\n"
    )
    whole, two = load_profile("whole"), load_profile("two")
    assert {name: arm.shown for name, arm in whole.arms.items()} == {
        "more": None, "grpo": "two", "high": "two", "once": "two", "twice": "two",
    }  # fmt: skip
    for arm in two.arms:
        assert whole.configs(arm) == two.configs(arm)
    assert [config.base for config in whole.configs("more")] == ["m", "xs"]
    assert [config.arm for config in whole.own.all_configs()] == ["more", "more"]
    assert two.own == two
    # What is shown is another's own, and not what that one shows in its turn.
    (folder / "profiles" / "third.yaml").write_text(
        "description: Only shows.\nbase: s\nseeds: [0]\nshows: [whole]\ngroups: {}\n"
    )
    assert list(load_profile("third").arms) == ["more"]
    # So two may show each other, and have their arms in one order.
    (folder / "profiles" / "two.yaml").write_text(GOOD.replace("groups:", "shows: [whole]\ngroups:"))
    whole, two = load_profile("whole"), load_profile("two")
    assert list(whole.arms) == list(two.arms) == ["grpo", "high", "once", "twice", "more"]
    assert {one.shown for one in two.own.arms.values()} == {None} and two.arms["more"].shown == "whole"
    assert {*whole.own.arms, *two.own.arms} == {*whole.arms} and not {*whole.own.arms} & {*two.own.arms}


@pytest.mark.parametrize(
    ("shows", "message"),
    [
        ("[three]", "shows: 'three' is no other profile; those are two, whole"),
        ("[whole]", "shows: 'whole' is no other profile"),
        ("[two]", "shows: profile 'two' has the arm 'grpo', which this one has itself"),
    ],
)
def test_a_profile_cannot_show_what_is_not_there_or_its_own(folder, shows, message):
    (folder / "profiles" / "whole.yaml").write_text(
        f"description: More.\nbase: s\nseeds: [0]\nshows: {shows}\ngroups: {{main: {{}}}}\n"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_profile("whole")


def test_a_planned_group_has_arms_and_no_runs(folder):
    path = folder / "profiles" / "two.yaml"
    path.write_text(GOOD.replace("main: {}", "main: {seeds: []}"))
    profile = load_profile("two")
    assert "grpo" in profile.arms and profile.configs("grpo") == []
    assert [config.arm for config in profile.all_configs()] == ["once", "twice"]
    path.write_text(GOOD.replace("seeds: [3, 5]", "seeds: []"))
    with pytest.raises(ConfigError, match="seeds"):
        load_profile("two")


def test_claims_of_the_study_have_seeds_enough():
    cpu, smoke = load_profile("cpu"), load_profile("smoke")
    assert list(cpu.arms) == list(smoke.arms)
    assert {arm.shown for arm in smoke.arms.values()} == {None}
    assert {arm.group for arm in cpu.own.arms.values()} == {
        "collapse",
        "law",
        "probe",
        "rate",
        "fixes",
    }
    assert {arm.shown for arm in cpu.arms.values()} == {None, "cpu-more", "countdown"}
    assert min(len(arm.seeds) for arm in cpu.arms.values() if arm.group in ("collapse", "fixes", "explore")) >= 4
    assert min(len(arm.seeds) for arm in cpu.own.arms.values()) >= 2
    assert set(cpu.own.arms) <= set(load_profile("cpu-more").arms) < set(cpu.arms)
    assert profile_names() == [
        *("colab", "countdown", "cpu", "cpu-more", "gpu", "paper", "paper-32b", "paper-7b", "smoke"),
    ]


def test_arms_of_one_comparison_see_as_many_rollouts():
    for name in ("cpu", "smoke"):
        profile = load_profile(name)
        for group in ("updates", "fixes", "explore", "single", "probe", "size"):
            configs = [profile.configs(arm)[0] for arm, one in profile.arms.items() if one.group == group]
            assert len({config.max_steps / config.updates_per_rollout for config in configs}) == 1, (name, group)


def test_configs_join_the_layers_field_by_field(folder):
    profile = load_profile("two")
    assert profile.arms["grpo"].seeds == (3, 5) and profile.arms["once"].seeds == (0,)
    # In the order of arms.yaml, and without the group that the profile does not have.
    assert [config.arm for config in profile.all_configs()] == ["grpo", "grpo", "high", "high", "once", "twice"]
    common = {"mask_truncated_completions": True}
    assert profile.configs("grpo") == profile.all_configs()[:2]
    assert profile.configs("grpo", [7]) == [
        RunConfig(base="s", seed=7, arm="grpo", max_steps=8, trainer={"beta": 0.1, **common})
    ]
    assert profile.configs("high")[1] == RunConfig(
        base="s", seed=5, arm="high", max_steps=16, epsilon_high=0.28, trainer={"beta": 0.2, **common}
    )


def test_the_more_particular_layer_decides_and_rollouts_become_steps(folder):
    """The profile's run, the group's in arms.yaml, the group's in the profile, the arm's: each wins over those before.
    The profile's 6 rollouts replace its own 8 steps and the group's 5 rollouts."""
    trainer = {"mask_truncated_completions": True, "top_entropy_quantile": 0.5}
    common = {"base": "s", "seed": 0, "temperature": 0.9, "learning_rate": 1e-3}
    assert load_profile("two").configs("once") == [
        RunConfig(
            arm="once", steps_per_generation=1, max_steps=6, eval_steps=2, trainer={**trainer, "beta": 0.3}, **common
        )
    ]
    assert load_profile("two").configs("twice") == [
        RunConfig(
            arm="twice", steps_per_generation=2, max_steps=12, eval_steps=4, trainer={**trainer, "beta": 0.4}, **common
        )
    ]


def test_steps_in_a_later_layer_replace_rollouts_in_an_earlier_one(folder):
    (folder / "profiles" / "two.yaml").write_text(GOOD.replace("max_steps: 8", "rollouts: 10"))
    assert load_profile("two").configs("grpo")[0].max_steps == 10 * RunConfig().updates_per_rollout
    assert load_profile("two").configs("high")[0].max_steps == 16


def test_a_profile_may_have_a_pinned_base(folder):
    text = GOOD.replace("base: s", "base: hub:Qwen/Qwen2.5-0.5B")
    (folder / "profiles" / "two.yaml").write_text(text.replace("run:\n", "run:\n  policy: {lora: {r: 8}}\n", 1))
    config = load_profile("two").configs("grpo")[0]
    assert (config.base, config.policy.lora.r) == ("hub:Qwen/Qwen2.5-0.5B", 8)


def test_unknown_names_list_the_known_ones(folder):
    with pytest.raises(ConfigError, match="^profile 'three' is unknown; the profiles are two$"):
        load_profile("three")
    with pytest.raises(ConfigError, match="^arm 'kl' is not in profile 'two'; its arms are grpo, high, once, twice$"):
        load_profile("two").configs("kl")
    with pytest.raises(ConfigError, match="unknown"):
        load_profile("../profiles/two")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("base: s", "base: 3", r"base=3 \(int\) is not allowed; it must be a valid list"),
        ("base: s", "bases: s", r"'bases' is unknown; known are description, base, seeds, groups, run"),
        ("base: s\n", "", r"base is missing"),
        ("[3, 5]", "3", r"seeds=3 \(int\) is not allowed; it must be a valid list"),
        ("[3, 5]", "[]", r"seeds=\[\] \(list\) is not allowed; it must have at least 1 item"),
        ("[3, 5]", "[true]", r"seeds.0=True \(bool\) is not allowed; it must be a valid integer"),
        ("[3, 5]", "[3, -5]", r"seeds.1=-5 \(int\) is not allowed; it must be greater than or equal to 0"),
        ("[3, 5]", "[3, 3]", r"seeds: \[3, 3\] names a seed twice"),
        ("seeds: [0]", "seeds: [-1]", r"groups.updates.seeds.0=-1 \(int\) is not allowed; it must be greater"),
        ("seeds: [0]", "seeds: 0", r"groups.updates.seeds=0 \(int\) is not allowed; it must be a valid list"),
        ("seeds: [0]", "seed: [0]", r"groups.updates: 'seed' is unknown; known are seeds, run"),
        ("main: {}", "main: 3", r"groups.main=3 \(int\) is not allowed; it must be a valid dictionary"),
        ("main: {}", "mine: {}", r"group 'mine' is not in arms.yaml; its groups are main, updates, rest"),
        ("max_steps: 8", "max_steps: -8", r"\(arm grpo\): max_steps=-8 \(int\) is not allowed; it must be greater"),
        ("max_steps: 8", "rollouts: 0", r"\(arm grpo\): rollouts=0 is not allowed; it must be an integer of at least"),
        ("max_steps: 8", "rollouts: 1.5", r"\(arm grpo\): rollouts=1.5 is not allowed; it must be an integer"),
        ("eval_rollouts: 2", "eval_rollouts: no", r"\(arm once\): eval_rollouts=False is not allowed"),
        ("max_steps: 8", "stepz: 8", r"\(arm grpo\): 'stepz' is unknown; known are base, "),
        ("max_steps: 8", "seed: 8", r"seed=8 among a run's fields is set elsewhere: remove it"),
        ("rollouts: 6", "arm: kl", r"arm='kl' among a run's fields is set elsewhere: remove it"),
        ("{beta: 0.1, mask_truncated_completions: true}", "3", r"trainer: 3 \(int\) is not allowed"),
        ("base: s", "base: [", r"not YAML"),
        (GOOD, "- 1", r"\[1\] \(list\) is not allowed; it must be a valid dictionary"),
        (GOOD, "", r"None \(NoneType\) is not allowed; it must be a valid dictionary"),
    ],
)
def test_bad_profile_is_named_with_key_and_value(folder, old, new, message):
    path = folder / "profiles" / "two.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=message) as error:
        load_profile("two")
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("grpo: {}", "grpo: [1]", r"main.arms.grpo=\[1\] \(list\) is not allowed; it must be a valid dictionary"),
        ("grpo: {}", "grpo:", r"main.arms.grpo=None \(NoneType\) is not allowed; it must be a valid dict"),
        ("grpo: {}", "3: {}", r"main.arms.3=3 \(int\) is not allowed; it must be a valid string"),
        ("more: {}", "high: {}", r"arm 'high' is there twice; the second is in group 'rest'"),
        ("rest:\n  arms:", "rest:\n  arm:", r"rest: 'arm' is unknown; known are run, arms"),
        ("rest:\n  arms:\n    more: {}", "rest: {}", r"rest.arms is missing"),
        ("rest:\n  arms:\n    more: {}", "rest: 3", r"rest=3 \(int\) is not allowed; it must be a valid dictionary"),
        (ARMS, "- 1", r"\[1\] \(list\) is not allowed; it must be a valid dictionary"),
        (ARMS, "main: [", r"not YAML"),
    ],
)
def test_bad_arms_are_named_with_key_and_value(folder, old, new, message):
    path = folder / "arms.yaml"
    assert old in ARMS
    path.write_text(ARMS.replace(old, new))
    with pytest.raises(ConfigError, match=message) as error:
        load_profile("two")
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epsilon_high: 0.28, ", "seed: 3, ", r"seed=3 among a run's fields is set elsewhere"),
        ("epsilon_high: 0.28, ", "epsilon_hi: 0.28, ", r"\(arm high\): 'epsilon_hi' is unknown; known are"),
        ("grpo: {}", "a b: {}", r"\(arm a b\): arm='a b' \(str\) is not allowed"),
        ("steps_per_generation: 2", "steps_per_generation: 7", r"\(arm twice\): steps_per_generation=7 does not"),
    ],
)
def test_bad_field_of_an_arm_is_named(folder, old, new, message):
    assert old in ARMS
    (folder / "arms.yaml").write_text(ARMS.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_profile("two")


def test_missing_arms_are_named(folder):
    (folder / "arms.yaml").unlink()
    with pytest.raises(ConfigError, match=r"arms.yaml: cannot be read \(No such file or directory\)"):
        load_profile("two")
