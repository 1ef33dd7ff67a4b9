"""The worked example of CONTRIBUTING, followed to the letter: one new file, one line elsewhere; then it is trained."""

import os
import re
import shutil
import subprocess
import sys

from repro import paths

TRAINED = """
import numpy as np
from repro.runs import RunConfig
from repro.runs.training import train

shape = {"prompts_per_rollout": 8, "eval_prompts": 8, "eval_samples": 2, "max_steps": 4}
config = RunConfig(base="s", trainer={"entropy_control": "sure", "entropy_control_fraction": 0.05}, **shape)
trained = train(config)
tokens = trained.tokens.query("step == 1")  # The policy is the one that sampled.
chosen = tokens[tokens["selected"]]
print(len(chosen) > 0, (chosen["advantage"] > 0).all(), (np.exp(chosen["log_prob"]) >= 0.5).all())
print(trained.metrics["selected/positive_advantage"].tolist())
try:
    train(config.replace(trainer={"entropy_control": "sure", "sure_least": 2.0}))
except ValueError as error:
    print(error)
"""


def test_the_example_is_trained_and_its_setting_checked(tmp_path):
    text = (paths.root() / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("\n## Add a method\n")[1].split("\n## ")[0]
    code, line = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    new = re.search(r"for\s+example `(src/\S+\.py)`", section).group(1)
    registry = re.search(r"by a line of `(src/\S+)`", section).group(1)
    shutil.copy(paths.root() / "pyproject.toml", tmp_path)
    shutil.copytree(paths.root() / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "bases").symlink_to(paths.bases_dir())
    assert not (tmp_path / new).exists() and line.count("\n") == 1
    (tmp_path / new).write_text(code, encoding="utf-8")
    with (tmp_path / registry).open("a", encoding="utf-8") as file:
        file.write(line)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(
        [sys.executable, "-c", TRAINED], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [
        "True True True",
        "[1.0, 1.0, 1.0, 1.0]",
        "sure_least=2.0: pass a number between 0 and 1",
    ], done.stderr
