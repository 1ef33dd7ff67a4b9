"""The floors of the house hold: who may import whom, and what loads without torch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from repro import paths

ROOT = paths.root()


def check(source: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of pyproject.toml on the package in a folder."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_modules_import_from_lower_floors_only():
    answer = check(ROOT / "src")
    assert answer.returncode == 0, answer.stdout


def test_a_broken_floor_is_named(tmp_path):
    """Every contract of pyproject.toml can fail, and a new room without a floor is noticed."""
    package = tmp_path / "repro"
    shutil.copytree(ROOT / "src" / "repro", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "losses.py").write_text("import repro.runs\nimport trl\n")
    (package / "analysis" / "law.py").write_text("import torch\n")
    answer = check(tmp_path)
    assert answer.returncode == 1
    assert "Contracts: 0 kept, 3 broken." in answer.stdout
    for violation in (
        "repro.losses is not allowed to import repro.runs",
        "repro.losses is not allowed to import trl",
        "repro.analysis is not allowed to import torch",
    ):
        assert violation in answer.stdout
    (package / "attic.py").touch()
    assert "repro.attic" in check(tmp_path).stdout


@pytest.mark.parametrize(
    "modules",
    [
        "repro.analysis.law, repro.analysis.power, repro.analysis.tabular, repro.paper, repro.claims",
        "repro.cli, repro.book.figures",
    ],
)
def test_reading_and_judging_need_no_torch(modules):
    code = f"import sys, {modules}\nprint(*{{'torch', 'transformers', 'trl'}} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout.split()) == (0, []), answer.stderr
