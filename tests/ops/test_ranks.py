"""Several processes over gloo select what one process selects from the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("rank_cases.py")


@pytest.mark.parametrize(
    ("world", "implementation"),
    [(2, "torch"), (3, "torch"), (2, "reference"), pytest.param(2, "triton", marks=pytest.mark.interpreter)],
)
def test_ranks_agree_with_one_process(tmp_path: Path, world: int, implementation: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if implementation == "triton":
        environment["TRITON_INTERPRET"] = "1"
    processes = [
        subprocess.Popen(
            [sys.executable, str(CASES), str(rank), str(world), str(tmp_path / "store"), implementation],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(world)
    ]
    try:
        outputs = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (out, err) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, err
        assert out.strip() == "all checks ran"
