"""Where the workflow's jobs run: what is missing is said first, and Slurm's plugin is given what each job needs."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from repro import paths
from repro.errors import ConfigError
from repro.runs import executors

PROFILES = paths.root() / "workflow" / "profiles"
SLURM = Path(__file__).parent / "slurm" / "slurm.py"
COMMANDS = ("sbatch", "sacct", "squeue", "srun", "sinfo", "scontrol", "sacctmgr", "scancel")
needs_slurms_plugin = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None,
    reason="needs the extra slurm: pip install -e '.[slurm]'",
)


def own(folder: Path, text: str) -> str:
    folder.mkdir()
    (folder / "config.yaml").write_text(text)
    return str(folder)


def test_this_machine_needs_nothing():
    assert executors.arguments("local", paths.root()) == []


@pytest.mark.parametrize("name", ["slurm", "kubernetes"])
def test_a_missing_plugin_is_named_with_what_installs_it(monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    expected = rf"executor '{name}' needs snakemake-executor-plugin-{name}, which.*pip install -e '\.\[{name}\]'`$"
    with pytest.raises(ConfigError, match=expected):
        executors.arguments(name, paths.root())


def test_a_plugin_without_its_command_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: module)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="needs the command sbatch; call from a machine that submits"):
        executors.arguments("slurm", paths.root())


def test_a_profile_of_ones_own(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: module if module.endswith("_own") else None)
    folder = own(tmp_path / "mine", "executor: own\njobs: 3\n")
    assert executors.arguments(folder, paths.root()) == ["--workflow-profile", folder]
    for name, text, expected in (
        ("else", "executor: elsewhere\n", "pip install snakemake-executor-plugin-elsewhere`"),
        ("none", "jobs: 3\n", "names no executor"),
        ("list", "- executor\n", "names no executor"),
        ("broken", "a: [\n", "not YAML"),
    ):
        with pytest.raises(ConfigError, match=expected):
            executors.arguments(own(tmp_path / name, text), paths.root())
    with pytest.raises(ConfigError, match="'slrum' is unknown: choose local, kubernetes, slurm, or a folder"):
        executors.arguments("slrum", paths.root())


def test_every_profile_is_of_an_extra_and_named_by_its_plugin():
    files = {path.parent.name: yaml.safe_load(path.read_text()) for path in PROFILES.glob("*/config.yaml")}
    assert set(files) == set(executors.EXTRAS)
    assert all(values["executor"] == name for name, values in files.items())


@needs_slurms_plugin
@pytest.mark.slow
def test_slurm_gets_a_job_for_each_part_with_what_it_needs(sandbox, tmp_path, monkeypatch):
    """The plugin is the real one; Slurm's commands are a stand-in that runs jobs here."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in COMMANDS:
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{SLURM}" {name} "$@"\n')
        (commands / name).chmod(0o755)
    monkeypatch.setitem(sandbox.environment, "PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setitem(sandbox.environment, "REPRO_FAKE_SLURM", str(tmp_path))
    profile = yaml.safe_load((sandbox.root / "workflow" / "profiles" / "slurm" / "config.yaml").read_text())
    profile |= {"slurm-init-seconds-before-status-checks": 1, "seconds-between-status-checks": 1, "latency-wait": 5}
    folder = own(tmp_path / "quick", yaml.safe_dump(profile))

    planned = sandbox.repro("reproduce", "--profile", "tiny", "--executor", folder, "--gpus", "2", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "2 of 2 runs to train" in planned.stdout and "notebooks to execute: 01_one, 02_two" in planned.stdout
    assert sandbox.trainings() == [] and not (tmp_path / "asked").exists()

    # Every job starts Snakemake twice more: once as the job, once as its step.
    process = sandbox.start("reproduce", "--profile", "tiny", "--executor", folder, "--gpus", "2")
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors + (sandbox.build / "logs" / "snakemake.log").read_text()
    assert sandbox.trainings() == ["0", "1"]
    assert (sandbox.build / "tiny" / "site" / "index.html").read_text() == "<p>['01_one.ipynb', '02_two.ipynb']</p>\n"
    asked = {one["comment"]: one for one in map(json.loads, (tmp_path / "asked").read_text().splitlines())}
    assert asked.keys() == {f"rule_{rule}" for rule in ("train_grpo", "01_one", "02_two", "verdicts", "site")}
    # Nothing was measured of this base policy, so a day is asked for.
    train = asked.pop("rule_train_grpo")
    assert (train["gpus"], train["mem"], train["t"]) == ("2", "4000", "1440")
    assert {(one["gpus"], one["mem"], one["t"]) for one in asked.values()} == {(None, "4000", "60")}

    planned = sandbox.repro("reproduce", "--profile", "tiny", "--dry-run")
    assert "0 of 2 runs to train" in planned.stdout and "notebooks to execute: none" in planned.stdout
