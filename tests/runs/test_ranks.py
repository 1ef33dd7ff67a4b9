"""Several processes that train one run, as `accelerate launch` starts `python -m repro run`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from repro import paths
from repro.errors import ConfigError
from repro.runs import RunConfig, ranks
from repro.runs.options import Options
from repro.runs.profiles import load_profile
from repro.runs.record import Run, load_or_train
from repro.runs.trainer_config import trainer_config

FOLDER = paths.configs_dir() / "accelerate"
SCRIPT = Path(__file__).with_name("sharded_on_cpus.py")
SMALL = {"max_steps": 4, "prompts_per_rollout": 8, "eval_steps": 4, "eval_prompts": 8}
SMALL |= {"eval_samples": 2, "eval_samples_last": 2}
ENGINES = {"ddp": {**SMALL, "sampler": "own"}, "fsdp2": {**SMALL, "sampler": "trl"}}
ARMS = ("kl_cov", "random_symmetric")


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")


def test_a_process_alone_is_the_first_and_knows_no_other(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    assert (ranks.count(), ranks.several(), ranks.first(), ranks.same(7)) == (1, False, True, 7)


def test_processes_that_do_not_find_each_other_are_an_error(monkeypatch):
    from accelerate import PartialState

    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(PartialState, "num_processes", 1, raising=False)
    monkeypatch.setattr(PartialState, "__init__", lambda self, cpu: None)
    with pytest.raises(
        ConfigError, match="WORLD_SIZE=2, but accelerate knows of 1; start the processes by `accelerate"
    ):
        ranks.same(7)


def test_a_micro_batch_is_shared_out(two):
    assert ranks.share(RunConfig(), 128) == 64
    with pytest.raises(ConfigError, match="2 processes cannot share micro-batches of 5 sequences"):
        ranks.share(RunConfig(), 5)
    # 4 sequences in one micro-batch are half of a prompt's 8.
    with pytest.raises(ConfigError, match="cannot share micro-batches of 8 sequences"):
        ranks.share(RunConfig(prompts_per_rollout=1, steps_per_generation=1), 8)


def test_the_rollout_is_that_of_one_process(two, tmp_path, monkeypatch):
    both = trainer_config(RunConfig(), str(tmp_path)).per_device_train_batch_size
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert trainer_config(RunConfig(), str(tmp_path)).per_device_train_batch_size == 2 * both == 128


@pytest.mark.parametrize(
    ("engine", "fields", "expected"),
    [
        ("", {"probe_every": 4}, "probe_every=4 measures on one process"),
        ("FSDP", {}, "sampler='own' cannot sample from a sharded policy; set sampler to 'trl'"),
        ("DEEPSPEED", {"sampler": "trl"}, "launch with configs/accelerate/fsdp2.yaml or ddp.yaml"),
        ("FSDP", {"sampler": "trl", "base": "hub:a/b", "policy": {"lora": {"r": 4}}}, "adapters is not sharded"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(monkeypatch, engine, fields, expected):
    monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    with pytest.raises(ConfigError, match=expected):
        ranks.check(RunConfig(**fields))
    monkeypatch.delenv(f"ACCELERATE_USE_{engine}")
    ranks.check(RunConfig())


def test_a_sharded_policy_is_not_saved(two, build, monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="--save-policy.*ddp.yaml"):
        load_or_train(RunConfig(), options=Options(save_policy=tmp_path))


def test_a_policy_that_is_not_sharded_is_itself():
    model = torch.nn.Linear(2, 2)
    assert ranks.whole(model) is model


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> dict[str, Path]:
    """Build folders of two runs by two processes, by either config, with checkpoints after every step."""
    root = tmp_path_factory.mktemp("ranks")
    started = {}
    for engine, fields in ENGINES.items():
        config = root / f"{engine}.yaml"
        config.write_text((FOLDER / f"{engine}.yaml").read_text() + "main_process_port: 0\n")
        settings = [word for name, value in fields.items() for word in ("--set", f"{name}={value}")]
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), str(SCRIPT)]
        started[engine] = subprocess.Popen(
            [*launch, "run", "--profile", "smoke", "--arm", *ARMS, *settings],
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(paths.root() / "src"), "REPRO_BUILD": str(root / engine)}
            | {"REPRO_CHECKPOINT_MINUTES": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    for process in started.values():
        output, _ = process.communicate(timeout=500)
        assert process.returncode == 0, output[-3000:]
        assert output.count(": trained (") == 2
    return {engine: root / engine for engine in ENGINES}


def run_of(recorded: dict[str, Path], engine: str, arm: str) -> Run:
    (config,) = load_profile("smoke").configs(arm, [0])
    config = config.replace(**ENGINES[engine])
    return Run(config, recorded[engine] / "runs" / config.folder)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("arm", ARMS)
def test_two_processes_train_and_record_a_run(recorded, engine, arm):
    run = run_of(recorded, engine, arm)
    made = run.provenance
    assert (made["ranks"], made["sharded"]) == (2, engine == "fsdp2")
    assert made["reproducible"] == "statistically"
    assert run.metrics["step"].tolist() == [1, 2, 3, 4] and run.evaluations["step"].tolist() == [0, 4]
    # The tokens of a whole rollout, of 8 prompts with 8 samples each: one process alone would have half as many.
    length = run.metrics["completions/mean_length"].iloc[0]
    if arm == "kl_cov":
        assert run.metrics["selected/pool"].iloc[0] == pytest.approx(64 * length)


@pytest.mark.slow
def test_every_process_evaluates_the_whole_policy(recorded):
    """Before the first step it is the base policy, sharded or not, on the same problems with the same draws."""
    (ddp, fsdp2) = (run_of(recorded, engine, "kl_cov").evaluations for engine in ENGINES)
    columns = ["accuracy/mean", "accuracy/greedy", "completion_length/mean"]
    assert ddp[columns].iloc[0].tolist() == fsdp2[columns].iloc[0].tolist()
    assert ddp["accuracy/mean"].iloc[0] > 0.1
