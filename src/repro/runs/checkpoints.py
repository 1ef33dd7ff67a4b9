"""Checkpoints of runs that are not finished: where they are, and whether a run may go on from one.

``<runs>/.partial/<folder>.checkpoints/`` has ``sessions.json``, which says in what environment the run began and each
time went on, and ``checkpoint-<step>`` folders of the trainer. A checkpoint's last file is ``study.json``, what the
study measured so far: one that was cut short lacks it and does not count.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repro.paths import runs_dir
from repro.runs.config import RunConfig

SESSIONS, STUDY, PREFIX = "sessions.json", "study.json", "checkpoint-"
SAME = ("code", "device", "ranks", "sharded")
"""What of the environment must be as it was: the other versions and the machine are written down."""


def folder_of(config: RunConfig) -> Path:
    """Where a run's checkpoints are."""
    return runs_dir() / ".partial" / f"{config.folder}.checkpoints"


def step_of(checkpoint: Path) -> int:
    """The optimizer step after which a checkpoint was made."""
    return int(checkpoint.name.removeprefix(PREFIX))


def newest(folder: Path) -> Path | None:
    """The latest whole checkpoint in a folder."""
    return max((path.parent for path in folder.glob(f"{PREFIX}*/{STUDY}")), key=step_of, default=None)


def begin(config: RunConfig, made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Open a run's folder of checkpoints for a session in the environment ``made``; what is of no use there is removed.

    Returns:
        The sessions so far, this one last, each with ``from_step``, the step that it goes on from.
    """
    folder = folder_of(config)
    start = newest(folder)
    earlier: list[dict[str, Any]] = []
    if start is not None:
        begun = json.loads((folder / SESSIONS).read_text(encoding="utf-8"))
        earlier = begun["sessions"]
        other = [name for name in SAME if earlier[0].get(name) != made.get(name)]
        if not config.agrees(begun["config"]):
            other.append("config")
        if other:
            print(
                f"run {config.name} has a checkpoint of step {step_of(start)}, but of another {' and '.join(other)}; "
                "it begins anew",
                file=sys.stderr,
            )
            start, earlier = None, []
        else:
            print(f"run {config.name} goes on from step {step_of(start)}", file=sys.stderr)
    if start is None:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    sessions = [*earlier, {**made, "from_step": 0 if start is None else step_of(start)}]
    write_json(folder / SESSIONS, {"config": config.to_dict(), "sessions": sessions})
    return sessions


def end(config: RunConfig) -> None:
    """Remove a run's folder of checkpoints, where it has none to go on from."""
    if newest(folder_of(config)) is None:
        discard(config)


def discard(config: RunConfig) -> None:
    """Remove a run's checkpoints."""
    shutil.rmtree(folder_of(config), ignore_errors=True)


def write_json(path: Path, values: Any) -> None:
    """Write a file whole or not at all. Numbers come back to the bit, and NaN too."""
    draft = path.with_name(f".{path.name}.tmp")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(values, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
