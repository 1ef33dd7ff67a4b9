"""Where Snakemake runs the jobs of the workflow: on this machine, or by one of its plugins on a cluster.

An executor is a workflow profile of Snakemake's, a folder with ``config.yaml``: those in ``workflow/profiles``, by
name, or one of your own, by path.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from repro.errors import ConfigError
from repro.policies import split
from repro.runs.config import RunConfig

LOCAL = "local"
COMMANDS = {"slurm": "sbatch", "kubernetes": "kubectl"}
"""What an executor calls on the machine that submits."""
VARIABLES = {"kubernetes": ("REPRO_IMAGE", "REPRO_CLAIM")}
"""What of the environment an executor needs, as its profile explains."""
EXTRAS = {"slurm": "slurm", "cluster-generic": "kubernetes"}
"""The extra of this package that has a plugin."""
FOLDER = "REPRO_EXECUTOR"
"""Of the environment that Snakemake gets: where the profile is."""


def arguments(executor: str, root: Path) -> list[str]:
    """Snakemake's arguments for an executor, none for ``local``, once what it needs is found to be here.

    Args:
        executor: ``local``, the name of a folder in ``workflow/profiles``, or the path of another such folder.
        root: the repository.

    Raises:
        ConfigError: for an unknown executor, and for a plugin, command or variable that is missing.
    """
    if executor == LOCAL:
        return []
    folder = _folder(executor, root)
    plugin = _plugin(folder)
    package = f"snakemake-executor-plugin-{plugin}"
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        wanted = f"-e '.[{EXTRAS[plugin]}]'" if plugin in EXTRAS else package
        raise ConfigError(
            f"executor {executor!r} needs {package}, which is not installed; `.venv/bin/python -m pip install {wanted}`"
        )
    command = COMMANDS.get(folder.name)
    if command is not None and shutil.which(command) is None:
        raise ConfigError(f"executor {executor!r} needs the command {command}; call from a machine that submits jobs")
    missing = [name for name in VARIABLES.get(folder.name, ()) if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"executor {executor!r} needs {' and '.join(missing)}; {folder / 'config.yaml'} says what for"
        )
    return ["--workflow-profile", str(folder)]


def launched(runs: Sequence[RunConfig], gpus: int, root: Path) -> list[str]:
    """The command that a job of some runs starts with: `python -m repro`, by `accelerate launch` on several GPUs.

    Policies that are pinned are sharded over them, where sampler and adapters allow it; others are copied.
    """
    if gpus < 2:
        return [sys.executable, "-m", "repro"]
    shards = all(split(run.base)[0] and run.sampler != "own" and run.policy.lora is None for run in runs)
    config = root / "configs" / "accelerate" / ("fsdp2.yaml" if shards else "ddp.yaml")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    return [*launch, "--num_processes", str(gpus), "--main_process_port", "0", "-m", "repro"]


def _folder(executor: str, root: Path) -> Path:
    profiles = root / "workflow" / "profiles"
    names = sorted(path.parent.name for path in profiles.glob("*/config.yaml"))
    folder = profiles / executor if executor in names else Path(executor)
    if not (folder / "config.yaml").is_file():
        raise ConfigError(
            f"executor {executor!r} is unknown: choose {LOCAL}, {', '.join(names)}, or a folder with a config.yaml for "
            "Snakemake"
        )
    return folder.resolve()


def _plugin(folder: Path) -> str:
    """The plugin that a profile names.

    Raises:
        ConfigError: for a profile that cannot be read, or names none.
    """
    path = folder / "config.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    plugin = values.get("executor") if isinstance(values, dict) else None
    if not isinstance(plugin, str):
        raise ConfigError(f"{path} names no executor; add a line such as `executor: slurm`")
    return plugin
