"""RunConfig: what it accepts, what it says when it does not, and what its identity depends on."""

import json
import math
import os
import pickle
import shutil
import subprocess
import sys

import pytest
from pydantic import ValidationError

from repro import paths
from repro.errors import BaseError, ConfigError
from repro.runs import RunConfig
from repro.runs import config as config_module
from repro.runs.config import _defaults


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_steps", -1),
        ("max_steps", 0),
        ("max_steps", True),
        ("max_steps", 10.0),
        ("max_steps", "10"),
        ("max_steps", None),
        ("seed", -1),
        ("base", ""),
        ("base", "../m"),
        ("base", 3),
        ("arm", "a b"),
        ("num_generations", 1),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("learning_rate", True),
        ("learning_rate", "1e-4"),
        ("epsilon", -0.2),
        ("temperature", 0.0),
        ("temperature", None),
        ("scale_rewards", "std"),
        ("eval_steps", 0),
        ("reward", "accurate"),
        ("reward", None),
        ("gradient_accumulation_steps", 0),
        ("eval_samples_last", 0),
        ("probe_every", -1),
        ("probe_every", False),
        ("base", "hub:../../etc"),
        ("base", "hub:a/b/c"),
        ("sampler", "vLLM"),
    ],
)
def test_refuses_a_bad_value_naming_field_and_value(field, value):
    with pytest.raises(ConfigError) as error:
        RunConfig(**{field: value})
    assert f"{field}={value!r} ({type(value).__name__}) is not allowed; it must " in str(error.value)


@pytest.mark.parametrize("value", [{"beta": [1]}, {"beta": math.inf}, {1: 2}, {"a b": 1}, [("beta", 1)], "beta"])
def test_refuses_a_bad_trainer_field(value):
    with pytest.raises(ConfigError, match="trainer"):
        RunConfig(trainer=value)


def test_refuses_an_unknown_field_naming_the_known_ones():
    with pytest.raises(ConfigError, match=r"^here: 'stepz' is unknown; known are base, .*trainer$"):
        RunConfig.from_dict({"stepz": 3}, source="here")


def test_refuses_micro_batches_that_do_not_share_a_rollout():
    share = {"prompts_per_rollout": 6, "num_generations": 4}
    with pytest.raises(ConfigError, match="^steps_per_generation=7 does not divide the 24 completions"):
        RunConfig(**share, steps_per_generation=7)
    with pytest.raises(ConfigError, match="^gradient_accumulation_steps=5 does not divide steps_per_generation=8;"):
        RunConfig(**share, steps_per_generation=8, gradient_accumulation_steps=5)
    assert RunConfig(**share, steps_per_generation=24, gradient_accumulation_steps=6).updates_per_rollout == 4


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            {"dtype": "int8"},
            r"policy.dtype='int8' \(str\) is not allowed; it must be 'auto', 'float32', 'bfloat16' or 'float16'",
        ),
        (
            {"attention": "sdpa"},
            "policy: 'attention' is unknown; known are dtype, attn_implementation, template, lora,",
        ),
        ({"lora": {"r": 0}}, r"policy.lora.r=0 \(int\) is not allowed; it must be greater than or equal to 1"),
        ({"lora": {"rank": 8}}, "policy.lora: 'rank' is unknown; known are r, lora_alpha"),
    ],
)
def test_refuses_a_bad_setting_of_the_policy(policy, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig(policy=policy)


def test_of_the_policys_settings_only_what_differs_is_in_the_identity(build):
    """So that another setting, with a default, leaves the identities of runs that have some already."""
    settings = {"lora": {"r": 32, "lora_alpha": 32}, "template": "plain", "dtype": "bfloat16"}
    config = RunConfig(base="m", policy=settings)
    assert config.content["policy"] == {"lora": {"r": 32}, "dtype": "bfloat16"}
    assert RunConfig.from_dict(json.loads(config.to_json())) == config == pickle.loads(pickle.dumps(config))
    assert RunConfig(policy={"lora": {}}).content["policy"] == {"lora": {}}
    assert "policy" not in RunConfig(policy={"template": "plain"}).content


def test_is_frozen_and_does_not_follow_its_arguments():
    trainer = {"beta": 0.1}
    config = RunConfig(trainer=trainer)
    trainer["beta"] = 0.2
    assert config.trainer == {"beta": 0.1}
    with pytest.raises(TypeError):
        config.trainer["beta"] = 0.3
    with pytest.raises(ValidationError, match="frozen"):
        config.max_steps = 3


def test_json_is_canonical_and_goes_both_ways():
    config = RunConfig(max_steps=8, learning_rate=1, trainer={"z": 1, "a": None})
    assert config.learning_rate == 1.0 and type(config.learning_rate) is float
    assert config == RunConfig(trainer={"a": None, "z": 1}, learning_rate=1.0, max_steps=8)
    assert hash(config) == hash(RunConfig(trainer={"a": None, "z": 1}, learning_rate=1.0, max_steps=8))
    assert RunConfig.from_dict(json.loads(config.to_json())) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert config.to_json().startswith('{"arm":"grpo","base":"s",')
    assert '"trainer":{"a":null,"z":1}' in config.to_json()


def test_identity_is_this_hash(build):
    """Records made elsewhere must keep their names. The expected values were computed without the package, as SHA-256
    of 100 times "m", and of the canonical JSON of what differs from the defaults, a newline and that hash."""
    config = RunConfig(base="m", seed=3, arm="kl", max_steps=8, learning_rate=2e-4, trainer={"beta": 0.1})
    assert config.base_sha256 == "f6449b4f736925a0013c6cbeb5cc4129c77576761aa2f694cae0f55b1d43f5c9"
    assert config.folder == "m-seed3-9dc9a5613628" and config.name == f"kl-{config.folder}"
    assert config.replace(arm="other", eval_steps=20).folder == config.folder
    assert config.kind == config.replace(seed=5).kind == config.replace(seed=0).identity


def test_defaults_that_identities_compare_with_stay(build):
    """A default that changes is entered in FIRST_DEFAULTS with its old value; this table is never changed, but for
    fields that are new."""
    assert _defaults() == {
        "base": "s",
        "task": "arithmetic",
        "seed": 0,
        "arm": "grpo",
        "max_steps": 960,
        "prompts_per_rollout": 64,
        "num_generations": 8,
        "sampler": "own",
        "reward": "accuracy",
        "steps_per_generation": 4,
        "gradient_accumulation_steps": 1,
        "learning_rate": 2e-4,
        "epsilon": 0.2,
        "epsilon_high": None,
        "temperature": 1.0,
        "max_completion_length": 16,
        "scale_rewards": "group",
        "eval_steps": 20,
        "eval_prompts": 256,
        "eval_samples": 8,
        "eval_samples_last": 64,
        "eval_temperature": 1.0,
        "probe_every": 0,
        "trainer": {},
        "policy": {},
        "eval_rollout_samples": 0,
        "eval_answers": 0,
    }


def test_a_changed_default_moves_no_record_and_gives_none_another_meaning(build, monkeypatch):
    """Were the default of max_steps 100 now: the old records were of 960 steps and stay where they are."""
    old, explicit = RunConfig(base="m"), RunConfig(base="m", max_steps=100)
    folders, recorded = (old.folder, explicit.folder), old.to_dict()
    monkeypatch.setattr(config_module, "_defaults", lambda: {**recorded, "base": "s", "max_steps": 960})
    assert (old.folder, explicit.folder) == folders
    # Without the entry the two would meet; the record's own config tells them apart.
    monkeypatch.setattr(config_module, "_defaults", lambda: {**recorded, "base": "s", "max_steps": 100})
    assert explicit.folder == folders[0]
    assert not explicit.agrees(recorded) and old.agrees(recorded)


def test_a_config_agrees_with_records_from_before_a_field_came(build):
    config = RunConfig(base="m", seed=1)
    recorded = {name: value for name, value in config.to_dict().items() if name != "sampler"}
    assert config.agrees(recorded) and config.agrees({**recorded, "arm": "another"})
    assert not config.replace(sampler="trl").agrees(recorded)
    assert not config.agrees({**recorded, "max_steps": 3}) and not config.agrees({**recorded, "gone": 1})


MOVES = """
import json
from repro.runs.profiles import load_profile
print(json.dumps([[config.arm, config.folder, config.kind] for config in load_profile("cpu").all_configs()]))
"""


def test_new_fields_and_other_labels_leave_every_record_where_it_is(tmp_path):
    """Tried in a copy of the repository: a field with a default is added, and an arm renamed."""
    root = tmp_path / "copy"
    for name in ("src/repro", "configs"):
        shutil.copytree(paths.root() / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.root() / "pyproject.toml", root)
    (root / "bases").symlink_to(paths.bases_dir())

    def folders() -> list[list[str]]:
        environment = {**os.environ, "PYTHONPATH": str(root / "src")}
        answer = subprocess.run([sys.executable, "-c", MOVES], env=environment, capture_output=True, check=True)
        return json.loads(answer.stdout)

    before = folders()
    arms = {folder: sorted(arm for arm, other, _ in before if other == folder) for _, folder, _ in before}
    # Clip-Cov's draw, asked of again, is Clip-Cov.
    assert {tuple(shared) for shared in arms.values() if len(shared) > 1} == {("fresh_draw", "search_clip_cov_wide")}
    edit(root / "src/repro/runs/config.py", "    probe_every: ", "    patience: Count = 3\n    probe_every: ")
    edit(root / "configs/arms.yaml", "    clip_higher:", "    clip_wider:")
    after = folders()
    assert [rest for _, *rest in after] == [rest for _, *rest in before]
    assert {"clip_wider"} == {arm for arm, *_ in after} - {arm for arm, *_ in before}


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        {"base": "s"},
        {"task": "other"},
        {"seed": 1},
        {"max_steps": 9},
        {"prompts_per_rollout": 32},
        {"num_generations": 4},
        {"steps_per_generation": 2},
        {"learning_rate": 1e-4},
        {"epsilon": None},
        {"epsilon_high": 0.28},
        {"temperature": 0.9},
        {"max_completion_length": 17},
        {"scale_rewards": "none"},
        {"eval_steps": 10},
        {"eval_prompts": 128},
        {"eval_samples": 4},
        {"eval_samples_last": 32},
        {"reward": "random"},
        {"gradient_accumulation_steps": 2},
        {"sampler": "trl"},
        {"sampler": "vllm"},
        {"policy": {"template": "chat"}},
        {"probe_every": 1},
        {"eval_temperature": 0.6},
        {"eval_rollout_samples": 4},
        {"eval_answers": 2},
        {"trainer": {"beta": 0.1}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_identity_changes_with_every_field(build, change):
    assert len(RunConfig().to_dict()) == 27
    assert RunConfig(**{"base": "m", **change}).identity != RunConfig(base="m").identity


def test_identity_changes_with_the_weights(build, tmp_path):
    before = RunConfig(base="m").identity
    assert RunConfig(base="m").identity == before
    (tmp_path / "bases" / "m" / "model.safetensors").write_bytes(b"other weights")
    assert RunConfig(base="m").identity != before


def test_missing_base_names_those_there_and_the_remedy(build):
    with pytest.raises(BaseError, match=r"'xl' is missing: .*; present are m, s; `python -m repro bases xl`"):
        _ = RunConfig(base="xl").identity
