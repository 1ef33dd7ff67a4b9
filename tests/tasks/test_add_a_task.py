"""The worked example of CONTRIBUTING, followed to the letter: one new file, one line elsewhere; then it is trained."""

import os
import re
import shutil
import subprocess
import sys

from repro import paths

TRAINED = """
import dataclasses
from repro.policies import base, recipes
from repro.runs import RunConfig
from repro.runs.training import train
from repro.tasks import get_task

task = get_task("reversal")
train_problems, validation = (set(task.dataset(split, 0, 200)["prompt"]) for split in ("train", "validation"))
print(len(train_problems & validation), task.verify("704", "704"), task.verify("407", "704"))
recipe = recipes.BaseRecipe("xs", task="reversal", clean_steps=60, mixture_steps=20, batch_size=16, learning_rate=4e-3)
base.RECIPES["tiny"] = recipes.RECIPES["tiny"] = recipe
base.make_bases(["tiny"])
config = RunConfig(base="tiny", task="reversal", max_steps=2, prompts_per_rollout=4, eval_prompts=32, eval_samples=2)
trained = train(config)
print(trained.metrics["step"].tolist(), trained.evaluations["step"].tolist())
print(sorted(name for name in trained.evaluations if "level" in name), trained.metrics["reward"].notna().any())
"""


def test_the_example_trains_a_base_and_a_run(tmp_path):
    text = (paths.root() / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("\n## Add a task\n")[1].split("\n## ")[0]
    code, line = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    new = re.search(r"for example\s+`(src/\S+\.py)`", section).group(1)
    registry, name = re.search(r"A line of `(src/\S+)`, under `(\w+)`", section).groups()
    shutil.copy(paths.root() / "pyproject.toml", tmp_path)
    shutil.copytree(paths.root() / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    assert not (tmp_path / new).exists()
    (tmp_path / new).write_text(code, encoding="utf-8")
    before = (tmp_path / registry).read_text(encoding="utf-8")
    opening = f"\n{name} = {{\n"
    assert before.count(opening) == line.count("\n") == 1
    (tmp_path / registry).write_text(before.replace(opening, opening + line), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src")}
    done = subprocess.run(
        [sys.executable, "-c", TRAINED], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [
        "0 True False",
        "[1, 2] [0, 2]",
        "['accuracy/level_3', 'accuracy/level_4', 'accuracy/level_5', 'accuracy/level_6'] True",
    ], done.stderr
