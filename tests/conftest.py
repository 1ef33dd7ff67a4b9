"""Fixtures that several test files share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import repro.policies.embedded
import repro.runs.attest
import repro.runs.keep
import repro.runs.record
from repro import paths
from repro.runs import RunConfig

SANDBOX = Path(__file__).parent / "sandbox"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty build folder, base policies ``m`` and ``s`` of a few bytes, and no results in the repository."""
    bases = tmp_path / "bases"
    for name in ("m", "s"):
        (bases / name).mkdir(parents=True)
        (bases / name / "model.safetensors").write_bytes(name.encode() * 100)
    monkeypatch.setattr(repro.policies.embedded, "bases_dir", lambda: bases)
    for module in (repro.runs.record, repro.runs.attest, repro.runs.keep):
        monkeypatch.setattr(module, "results_dir", lambda: tmp_path / "results")
    monkeypatch.setenv("REPRO_BUILD", str(tmp_path / "build"))
    return tmp_path / "build"


@dataclass(frozen=True)
class Sandbox:
    """A copy of the repository whose training, notebooks and book are instant, and the environment to run it in."""

    root: Path
    environment: dict[str, str]

    @property
    def build(self) -> Path:
        return self.root / "build"

    @property
    def control(self) -> Path:
        """Where the stand-in for training reports and is told to hang."""
        return self.root / "control"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start ``python -m repro`` with these arguments, in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "repro", *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def repro(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``python -m repro`` with these arguments to its end."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def trainings(self) -> list[str]:
        """A line per training started since the last call: its seed."""
        log = self.control / "started"
        lines = sorted(log.read_text().splitlines()) if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A copy of the repository with a profile ``tiny`` of two runs, and a folder name with a space in it."""
    root = tmp_path_factory.mktemp("sandbox") / "a copy"
    here = paths.root()
    for name in ("pyproject.toml", "configs", "workflow"):
        copy = shutil.copytree if (here / name).is_dir() else shutil.copy
        root.mkdir(exist_ok=True)
        copy(here / name, root / name)
    shutil.copytree(here / "src" / "repro", root / "src" / "repro", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SANDBOX / "training.py", root / "src" / "repro" / "runs" / "training.py")
    for stand_in, module in (("notebook.py", "notebook.py"), ("book.py", "build.py")):
        shutil.copy(SANDBOX / stand_in, root / "src" / "repro" / "book" / module)
    for name, content in {
        # Without the operators' torch, which the stand-ins do not need and which takes seconds to import.
        "src/repro/ops/__init__.py": "",
        "configs/profiles/tiny.yaml": (
            "description: Two runs.\nbase: t\nseeds: [0, 1]\nrun: {max_steps: 24, eval_steps: 1}\n"
            "groups: {collapse: {}}\n"
        ),
        "bases/t/model.safetensors": "weights",
        "notebooks/01_one.py": '# %%\nfrom repro.claims import load_ledger\nload_ledger().claim("collapse")\n',
        "notebooks/02_two.py": "# %%\nfrom repro.runs import load\n",
        "book/index.md": "# Book\n",
        "control/README": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    environment = {name: value for name, value in os.environ.items() if name not in ("REPRO_BUILD", "REPRO_DEBUG")}
    environment |= {"PYTHONPATH": str(root / "src"), "REPRO_TEST_DIR": str(root / "control")}
    # A home where nothing can be written, not even by root.
    environment |= {"HOME": "/dev/null", "XDG_CACHE_HOME": ""}
    return Sandbox(root, environment)


@dataclass(frozen=True)
class MadeUpRun:
    """A run that exists in memory only: what measurements and figures read of a `repro.runs.Run`."""

    config: RunConfig
    metrics: pd.DataFrame
    evaluations: pd.DataFrame
    tokens: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def name(self) -> str:
        return f"{self.config.arm}-seed{self.config.seed}"


@pytest.fixture
def make_run() -> Callable[..., MadeUpRun]:
    """Makes runs whose entropy and accuracy are functions of the fraction of training; by default both decay fast."""

    def make(
        seed: int = 0,
        entropy: Callable[[np.ndarray], np.ndarray] | None = None,
        accuracy: Callable[[np.ndarray], np.ndarray] | None = None,
        **fields: object,
    ) -> MadeUpRun:
        config = RunConfig(**{"seed": seed, "max_steps": 240, "eval_steps": 10} | fields)
        rate = 14 + seed % 3
        entropy = entropy or (lambda x: 0.02 + 0.5 * np.exp(-rate * x))
        accuracy = accuracy or (lambda x: 0.8 - 0.45 * np.exp(-rate * x))
        made = np.arange(config.max_steps)
        at = np.unique([*range(0, config.max_steps, config.eval_steps), config.max_steps])
        return MadeUpRun(
            config,
            pd.DataFrame({"step": made + 1, "entropy/response_mean": entropy(made / config.max_steps)}),
            pd.DataFrame({"step": at, "accuracy/mean": accuracy(at / config.max_steps)}),
        )

    return make
