"""Two processes (accelerate's DDP over gloo, started by torchrun) do what one does on the same rollouts."""

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from repro import paths

SCRIPT = Path(__file__).with_name("ranks.py")
COMMON = {"num_iterations": 2, "optim": "sgd", "learning_rate": 1.0, "max_steps": 4}
ONE = {"per_device_train_batch_size": 16, "steps_per_generation": 1}
TWO = {"per_device_train_batch_size": 8, "steps_per_generation": 1}
TWO_ACCUMULATED = {"per_device_train_batch_size": 4, "steps_per_generation": 2, "gradient_accumulation_steps": 2}
METHODS = {
    "kl_cov, rollout": {"entropy_control": "kl_cov", "entropy_control_fraction": 0.05},
    "kl_cov, step": {
        "entropy_control": "kl_cov",
        "entropy_control_fraction": 0.05,
        "entropy_control_scope": "step",
        "loss_type": "grpo",
    },
    "kl_cov, random tokens, adaptive": {
        "entropy_control": "kl_cov",
        "entropy_control_fraction": 0.05,
        "entropy_control_tokens": "random",
        "kl_cov_adaptive": True,
        "entropy_target": 4.0,
    },
    "kl_cov, rare failing tokens, step": {
        "entropy_control": "kl_cov",
        "entropy_control_fraction": 0.05,
        "entropy_control_scope": "step",
        "entropy_control_tokens": "rare_failing",
    },
    "kl_cov, high entropy, gradient, step": {
        "entropy_control": "kl_cov",
        "entropy_control_fraction": 0.1,
        "entropy_control_budget": "gradient",
        "entropy_control_scope": "step",
        "entropy_control_tokens": "high_entropy",
    },
    "clip_cov, random tokens, gradient": {
        "entropy_control": "clip_cov",
        "entropy_control_fraction": 0.1,
        "entropy_control_budget": "gradient",
        "entropy_control_tokens": "random",
    },
    "clip_cov, rollout": {
        "entropy_control": "clip_cov",
        "entropy_control_fraction": 0.05,
        "clip_cov_low": 0.0,
        "advantage_estimator": "reinforce++",
    },
    "prime": {
        "entropy_control": "kl_cov",
        "entropy_control_fraction": 0.05,
        "advantage_estimator": "prime",
        "prime_learning_rate": 1e-3,
    },
}


def run(folder: Path, processes: int, settings: dict[str, dict]) -> None:
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # `accelerate launch --cpu --num_processes=2` starts a single process where there is no MPI.
    torchrun = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={port}"]
    command = [sys.executable, *(torchrun if processes > 1 else [])]
    done = subprocess.run(
        [*command, str(SCRIPT), str(folder), json.dumps(settings)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(paths.root() / "src")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(folder.glob("*/places_*"))) == processes * len(settings)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """Folders of all methods' runs on one process and on two."""
    root = tmp_path_factory.mktemp("ranks")
    run(root / "one", 1, {name: COMMON | ONE | method for name, method in METHODS.items()})
    two = {name: COMMON | (TWO_ACCUMULATED if "step" in name else TWO) | method for name, method in METHODS.items()}
    run(root / "two", 2, two)
    return {"one": root / "one", "two": root / "two"}


def results(folder: Path):
    places = [tuple(place) for path in sorted(folder.glob("places_*")) for place in json.loads(path.read_text())]
    history = json.loads((folder / "history.json").read_text())
    return history, places, torch.load(folder / "parameters.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_two_processes_equal_one(runs, name):
    one, two = results(runs["one"] / name), results(runs["two"] / name)
    if "step" not in name:
        assert len(one[1]) > 3
    assert sorted(two[1]) == sorted(one[1])
    assert one[0][0]["selected/count"] > 3
    assert len(one[0]) == len(two[0]) == 4
    for expected, found in zip(one[0], two[0], strict=True):
        ours = [n for n in expected if n.split("/")[0] in ("selected", "covariance", "penalty", "ratio", "kl_cov")]
        for metric in ["loss", "grad_norm", "entropy/token_mean", "entropy/response_mean", *ours]:
            if expected[metric] is None:
                assert found[metric] is None
            else:
                close = math.isclose(found[metric], expected[metric], rel_tol=2e-3, abs_tol=1e-5)
                assert close, (metric, expected["step"], expected[metric], found[metric])
    for parameter, value in one[2].items():
        torch.testing.assert_close(two[2][parameter], value, rtol=1e-3, atol=1e-4, msg=parameter)
