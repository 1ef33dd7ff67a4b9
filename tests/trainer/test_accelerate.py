"""The configs for `accelerate launch`: its own parser reads them, and DDP and FSDP2 do on two CPUs what one does."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

from repro import paths

FOLDER = paths.configs_dir() / "accelerate"
SCRIPT = Path(__file__).with_name("ranks.py")
KINDS = {"ddp": DistributedType.MULTI_GPU, "fsdp2": DistributedType.FSDP, "zero3": DistributedType.DEEPSPEED}
METHODS = {
    "kl_cov, rollout": {"entropy_control": "kl_cov", "entropy_control_fraction": 0.1},
    "clip_cov, rollout": {"entropy_control": "clip_cov", "entropy_control_fraction": 0.1, "clip_cov_low": 0.0},
    "kl_cov, micro": {"entropy_control": "kl_cov", "entropy_control_fraction": 0.1, "entropy_control_scope": "micro"},
    # Each rank draws from a band of its own by a generator of its own; where the share takes in all of the band, there
    # is nothing to draw.
    "clip_cov, micro": {
        "entropy_control": "clip_cov",
        "entropy_control_fraction": 0.9,
        "clip_cov_low": 0.02,
        "entropy_control_scope": "micro",
    },
}
COMMON = {"num_iterations": 2, "optim": "sgd", "learning_rate": 1.0, "max_steps": 2, "in_order": True}
COMMON["allow_large_fraction"] = True
ONE = {"per_device_train_batch_size": 16, "steps_per_generation": 1}
# What is chosen of each micro-batch by itself depends on how a rollout is cut up: into two by one process as well.
IN_TWO = {"per_device_train_batch_size": 8, "steps_per_generation": 2, "gradient_accumulation_steps": 2}
TWO = {"per_device_train_batch_size": 8, "steps_per_generation": 1}
CLOSE = {"rel_tol": 2e-3, "abs_tol": 1e-5}


def test_there_is_a_config_for_each():
    assert {path.stem for path in FOLDER.iterdir()} == set(KINDS)


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_accelerate_reads_it(name, kind):
    """What accelerate does not know it refuses at the top and ignores further down, so the environment is looked at."""
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert config.distributed_type == kind and config.num_processes == 2
    arguments = launch_command_parser().parse_args(["--config_file", str(FOLDER / f"{name}.yaml"), "train.py"])
    arguments, *_ = _validate_launch_command(arguments)
    if name == "zero3":
        arguments.deepspeed_fields_from_accelerate_config = ""
        _, environment = prepare_deepspeed_cmd_env(arguments)
        assert environment["ACCELERATE_USE_DEEPSPEED"] == "true"
        assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "3"
        assert "ACCELERATE_USE_FSDP" not in environment
    else:
        environment = prepare_multi_gpu_env(arguments)
        assert (environment.get("ACCELERATE_USE_FSDP"), environment.get("FSDP_VERSION")) == (
            ("true", "2") if name == "fsdp2" else (None, None)
        )
    section = yaml.safe_load((FOLDER / f"{name}.yaml").read_text()).get(f"{kind.value.lower()}_config", {})
    for key in section:
        assert hasattr(launch_command_parser().parse_args(["train.py"]), key), f"{key} is none of accelerate's"


def start(command: list[str], folder: Path, settings: dict[str, dict]) -> subprocess.Popen[str]:
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, *command, str(SCRIPT), str(folder), json.dumps(settings)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(paths.root() / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Folders of all methods' runs: by one process, and by two as each config says, but on CPUs."""
    root = tmp_path_factory.mktemp("accelerate")
    one = {name: COMMON | (IN_TWO if "micro" in name else ONE) | method for name, method in METHODS.items()}
    two = {name: COMMON | TWO | method for name, method in METHODS.items()}
    started = [start([], root / "one", one)]
    for name in ("ddp", "fsdp2"):
        config = root / f"{name}.yaml"
        config.write_text((FOLDER / f"{name}.yaml").read_text() + "use_cpu: true\nmain_process_port: 0\n")
        launch = ["-m", "accelerate.commands.launch", "--config_file", str(config)]
        started.append(start(launch, root / name, two))
    for process in started:
        output, _ = process.communicate(timeout=500)
        assert process.returncode == 0, output[-3000:]
    return root


def results(folder: Path):
    places = [tuple(place) for path in sorted(folder.glob("places_*")) for place in json.loads(path.read_text())]
    history = json.loads((folder / "history.json").read_text())
    return history, sorted(places), torch.load(folder / "parameters.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("engine", ["ddp", "fsdp2"])
def test_two_processes_choose_and_measure_what_one_does(runs, engine, name):
    (history, places, parameters), (found, found_places, found_parameters) = (
        results(runs / by / name) for by in ("one", engine)
    )
    sharded = json.loads((runs / engine / name / "sharded.json").read_text())
    assert sharded == (sorted(parameters) if engine == "fsdp2" else [])
    assert len(places) > 5
    assert found_places == places
    assert len(found) == len(history) == 2
    for expected, measured in zip(history, found, strict=True):
        assert expected["selected/count"] > 3
        for metric in expected:
            if metric.split("/")[0] in ("loss", "grad_norm", "reward", "entropy", "selected", "covariance", "penalty"):
                assert math.isclose(measured[metric], expected[metric], **CLOSE), (metric, expected["step"])
    for parameter, value in parameters.items():
        torch.testing.assert_close(found_parameters[parameter], value, rtol=1e-3, atol=1e-4, msg=parameter)
