"""The hosted profile on stand-ins of its base and its problems, at a tiny scale: its arms, and its first notebook."""

import pytest
import yaml

import repro.runs.profiles
from repro import pins
from repro.paths import configs_dir, root
from repro.pins import lock
from repro.runs import load_or_train
from repro.runs.profiles import load_profile
from tests import problem_sets
from tests.standins import checkpoint

SMALL = {"prompts_per_rollout": 2, "num_generations": 8, "max_completion_length": 6, "reward": "random"}
SMALL |= {"rollouts": 2, "eval_rollouts": 1, "eval_prompts": 2, "eval_samples": 2, "eval_samples_last": 2}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The profile that ships with smaller numbers, and pins of stand-ins under the names that it has."""
    with problem_sets.places(tmp_path):
        made = pins.pin(str(checkpoint(tmp_path / "base", "qwen2")))[2]
        lock.add("model", "hub:Qwen/Qwen2.5-0.5B-Instruct", made)
        parts = problem_sets.REPOSITORIES["openai/gsm8k"]
        problem_sets.pinned("hub:openai/gsm8k", problem_sets.repository(tmp_path / "gsm8k", parts))
        folder = tmp_path / "small"
        (folder / "profiles").mkdir(parents=True)
        (folder / "arms.yaml").write_text((configs_dir() / "arms.yaml").read_text())
        profile = yaml.safe_load((configs_dir() / "profiles" / "colab.yaml").read_text())
        profile["run"] |= SMALL
        for group in profile["groups"].values():
            group["run"] = {name: value for name, value in group["run"].items() if name not in SMALL}
        (folder / "profiles" / "colab.yaml").write_text(yaml.safe_dump(profile))
        monkeypatch.setattr(repro.runs.profiles, "configs_dir", lambda: folder)
        yield load_profile("colab")


# Rollouts have some hundred tokens here, all alike, and thousands at the profile's own size.
@pytest.mark.filterwarnings("ignore:entropy_control_fraction", "ignore:Clip-Cov selected 0 tokens")
@pytest.mark.parametrize("arm", ["grpo", "probe", "clip_higher", "clip_cov", "kl_cov", "unclipped"])
def test_an_arm_trains_adapters_on_the_pinned_base(small, arm):
    (config,) = small.configs(arm, [0])
    run = load_or_train(config, progress=False)
    assert run.metrics["step"].max() == config.max_steps == 2 * config.updates_per_rollout
    assert run.provenance["sampler"] == "trl" and (run.metrics["grad_norm"] > 0).any()
    assert len(run.probe) == (config.max_steps if arm == "probe" else 0)


def test_the_first_notebook_goes_through(small, capsys):
    source = (root() / "notebooks" / "01_collapse.py").read_text()
    before = "profile: str | None = None"
    assert before in source
    exec(compile(source.replace(before, 'profile = "colab"'), "01_collapse", "exec"), {"__name__": "notebook"})
    assert "Claim 1 with profile colab: " in capsys.readouterr().out
