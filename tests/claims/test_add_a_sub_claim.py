"""The worked example of CONTRIBUTING, followed to the letter: one new file, one entry of the ledger."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from repro import paths

MEASURED = """
import numpy as np, pandas as pd
from types import SimpleNamespace
from repro import claims
from repro.runs import RunConfig

def made_up(seed):
    step = np.arange(1, 241)
    entropy = np.exp(-(step - 1) / (10 + seed))  # Half is gone after (10 + seed) ln 2 steps.
    return SimpleNamespace(
        name=f"seed {seed}",
        config=RunConfig(seed=seed, max_steps=240, steps_per_generation=1),
        metrics=pd.DataFrame({"step": step, "entropy/response_mean": entropy}),
        evaluations=pd.DataFrame({"step": [0, 120, 240], "accuracy/mean": [0.2, 0.7, 0.8]}),
    )

claim = claims.load_ledger().claim("collapse_length")
*_, last = claims.measure(claim, [made_up(seed) for seed in range(3)])
steps = [round(240 * value) for value in last.values]
print(last.subclaim, steps, last.criterion, last.verdict, last.printed_as, sep="; ")
"""


@pytest.fixture
def copy(tmp_path):
    """A copy of what the example changes."""
    root = paths.root()
    shutil.copy(root / "pyproject.toml", tmp_path)
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("configs", "src"):
        shutil.copytree(root / folder, tmp_path / folder, ignore=ignore)
    return tmp_path


def test_the_example_measures_made_up_runs(copy):
    text = (paths.root() / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("\n## Add a sub-claim\n")[1].split("\n## ")[0]
    [code] = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    [entry] = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    new = re.search(r"for example `(src/\S+\.py)`", section).group(1)
    ledger = re.search(r"at the end of `(\w+\.yaml)`", section).group(1)
    assert not (copy / new).exists()
    (copy / new).write_text(code, encoding="utf-8")
    with (copy / "configs" / "claims" / ledger).open("a", encoding="utf-8") as file:
        file.write(entry)
    environment = os.environ | {"PYTHONPATH": str(copy / "src")}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "half_life; [7, 8, 9]; at most 8.33 %; reproduced; not reported\n", done.stderr
