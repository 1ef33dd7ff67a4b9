"""Where the workflow's jobs run: what is missing is said first, and Slurm's plugin is given what each job needs."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from repro import paths
from repro.errors import ConfigError
from repro.runs import RunConfig, executors

PROFILES = paths.root() / "workflow" / "profiles"
CLUSTERS = Path(__file__).with_name("clusters.py")
COMMANDS = ("sbatch", "sacct", "squeue", "srun", "sinfo", "scontrol", "sacctmgr", "scancel", "kubectl")
PARTS = ("train_grpo", "01_one", "02_two", "verdicts", "site")


def needs(plugin: str, extra: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(f"snakemake_executor_plugin_{plugin}") is None
    return pytest.mark.skipif(missing, reason=f"needs the extra {extra}: pip install -e '.[{extra}]'")


def own(folder: Path, text: str) -> str:
    folder.mkdir()
    (folder / "config.yaml").write_text(text)
    return str(folder)


def test_this_machine_needs_nothing():
    assert executors.arguments("local", paths.root()) == []


@pytest.mark.parametrize(("name", "plugin"), [("slurm", "slurm"), ("kubernetes", "cluster-generic")])
def test_a_missing_plugin_is_named_with_what_installs_it(monkeypatch, name, plugin):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    expected = rf"executor '{name}' needs snakemake-executor-plugin-{plugin}, which.*pip install -e '\.\[{name}\]'`$"
    with pytest.raises(ConfigError, match=expected):
        executors.arguments(name, paths.root())


def test_a_plugin_without_its_command_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: module)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="needs the command sbatch; call from a machine that submits"):
        executors.arguments("slurm", paths.root())


def test_what_kubernetes_needs_of_the_environment_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: module)
    monkeypatch.setattr(shutil, "which", lambda command: command)
    monkeypatch.delenv("REPRO_CLAIM", raising=False)
    monkeypatch.setenv("REPRO_IMAGE", "repro")
    with pytest.raises(ConfigError, match="executor 'kubernetes' needs REPRO_CLAIM; .*config.yaml says what for"):
        executors.arguments("kubernetes", paths.root())
    monkeypatch.setenv("REPRO_CLAIM", "build")
    assert executors.arguments("kubernetes", paths.root()) == ["--workflow-profile", str(PROFILES / "kubernetes")]


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


def test_every_profile_is_of_a_plugin_with_an_extra():
    files = {path.parent.name: yaml.safe_load(path.read_text()) for path in PROFILES.glob("*/config.yaml")}
    assert {values["executor"]: name for name, values in files.items()} == executors.EXTRAS


def test_a_job_on_several_gpus_is_launched_by_accelerate():
    def config_of(**fields: object) -> str:
        command = executors.launched([RunConfig(), RunConfig(**fields)], 4, paths.root())
        assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
        assert command[5:] == ["--num_processes", "4", "--main_process_port", "0", "-m", "repro"]
        assert (command[3], Path(command[4]).is_file()) == ("--config_file", True)
        return Path(command[4]).name

    pinned = {"base": "hub:a/b", "sampler": "vllm"}
    assert config_of(**pinned) == "ddp.yaml"
    assert Path(executors.launched([RunConfig(**pinned)], 4, paths.root())[4]).name == "fsdp2.yaml"
    for fields in ({"sampler": "own"}, {"policy": {"lora": {"r": 4}}}):
        one = RunConfig(**(pinned | fields))
        assert Path(executors.launched([one], 4, paths.root())[4]).name == "ddp.yaml"
    assert executors.launched([RunConfig(**pinned)], 1, paths.root()) == [sys.executable, "-m", "repro"]


def test_the_job_of_the_most_completions_starts_first_where_no_record_gives_a_length(tmp_path):
    config = ("profile=gpu", "gpus=1", "trains=True")
    command = (sys.executable, "-m", "snakemake", "--snakefile", paths.root() / "workflow" / "Snakefile")
    planned = subprocess.run(
        [*command, "--directory", tmp_path, "--dry-run", "--config", *config, "--", "train"],
        env=os.environ | {"REPRO_BUILD": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"^rule train_(\w+):(?:\n    .*)*?\n    priority: (\d+)$", planned.stdout, re.MULTILINE)
    urgency = {name: int(priority) for name, priority in found}
    assert urgency["grpo"] > urgency["clip_cov"] > urgency["single_kl_cov"]


@pytest.fixture
def cluster(sandbox, tmp_path, monkeypatch):
    """Makes a profile for quick jobs, and a finished study by it with a GPU a job; returns what the jobs asked for."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in COMMANDS:
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{CLUSTERS}" {name} "$@"\n')
        (commands / name).chmod(0o755)
    variables = {"PATH": f"{commands}:{os.environ['PATH']}", "REPRO_FAKE_CLUSTER": str(tmp_path)}
    for name, value in (variables | {"REPRO_IMAGE": "repro", "REPRO_CLAIM": "build"}).items():
        monkeypatch.setitem(sandbox.environment, name, value)

    def reproduce(executor: str, **settings: int) -> list[dict]:
        shutil.rmtree(sandbox.build, ignore_errors=True)
        profile = sandbox.root / "workflow" / "profiles" / executor / "config.yaml"
        quick = {"seconds-between-status-checks": 1, "latency-wait": 5, **settings}
        profile.write_text(yaml.safe_dump(yaml.safe_load(profile.read_text()) | quick))
        where = ["reproduce", "--profile", "tiny", "--executor", executor, "--gpus", "1"]
        planned = sandbox.repro(*where, "--dry-run")
        assert planned.returncode == 0, planned.stderr
        assert "2 of 2 runs to train" in planned.stdout and "notebooks to execute: 01_one, 02_two" in planned.stdout
        assert sandbox.trainings() == [] and not (tmp_path / "asked").exists()
        # Every job starts Snakemake again, on Slurm a step of it once more.
        process = sandbox.start(*where)
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors + (sandbox.build / "logs" / "snakemake.log").read_text()
        assert sandbox.trainings() == ["0", "1"]
        page = sandbox.build / "tiny" / "site" / "index.html"
        assert page.read_text() == "<p>['01_one.ipynb', '02_two.ipynb']</p>\n"
        return [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]

    return reproduce


@needs("slurm", "slurm")
@pytest.mark.slow
def test_slurm_gets_a_job_for_each_part_with_what_it_needs(cluster, sandbox):
    """The plugin is the real one; Slurm's commands are a stand-in that runs jobs here."""
    settings = {"slurm-init-seconds-before-status-checks": 1}
    asked = {one["comment"]: one for one in cluster("slurm", **settings)}
    assert asked.keys() == {f"rule_{rule}" for rule in PARTS}
    # Nothing was measured of this base policy, so a day is asked for.
    train = asked.pop("rule_train_grpo")
    assert (train["gpus"], train["mem"], train["t"]) == ("1", "4000", "1440")
    assert {(one["gpus"], one["mem"], one["t"]) for one in asked.values()} == {(None, "4000", "60")}

    planned = sandbox.repro("reproduce", "--profile", "tiny", "--dry-run")
    assert "0 of 2 runs to train" in planned.stdout and "notebooks to execute: none" in planned.stdout


@needs("cluster_generic", "kubernetes")
@pytest.mark.slow
def test_kubernetes_gets_a_job_for_each_part_with_what_it_needs(cluster, sandbox):
    """The same with the plugin cluster-generic and a stand-in for kubectl."""
    jobs = [one["spec"] for one in cluster("kubernetes")]
    assert len(jobs) == len(PARTS)
    (claim,) = {one["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] for one in jobs}
    containers = [one["template"]["spec"]["containers"][0] for one in jobs]
    assert {one["volumeMounts"][0]["mountPath"] for one in containers} == {str(sandbox.build)}
    assert (claim, {one["image"] for one in containers}) == ("build", {"repro"})
    limits = [
        (one["resources"]["limits"]["nvidia.com/gpu"], one["resources"]["limits"]["memory"]) for one in containers
    ]
    seconds = [one["activeDeadlineSeconds"] for one in jobs]
    assert sorted(zip(limits, seconds, strict=True)) == [((0, "4000M"), 3600)] * 4 + [((1, "4000M"), 86400)]
