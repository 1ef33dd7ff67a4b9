"""The lock file: names and what they are pinned to.

What the Hub has is pinned in the project's ``configs/pins.lock.json``, to be committed. What lies in a folder of one
machine is pinned in ``pins.lock.json`` of the build folder, and so is everything where the project cannot be written.
Of a name in both the build folder's pin holds.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from repro.checked import Checked
from repro.checked import read as checked
from repro.errors import ConfigError, PinError
from repro.paths import build_dir, checkout, configs_dir

Kind = Literal["model", "dataset"]
FILE = "pins.lock.json"
HUB, LOCAL = "hub:", "local:"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Pin(Checked):
    """What a name stands for. A Hub's repository has a revision and a folder on this machine a path."""

    files: dict[str, Sha256]
    """The files that are used, by their path in the repository or folder."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    folder: str | None = None
    architecture: str | None = None
    """Of a model: the class that its config names."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Of a model's weights."""

    @property
    def digest(self) -> str:
        """SHA-256 over the paths and checksums of the files: equal files have equal digests, wherever they are."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Lock(Checked):
    """Pins by kind and name."""

    model: dict[str, Pin] = Field(default_factory=dict)
    dataset: dict[str, Pin] = Field(default_factory=dict)


def get(kind: Kind, name: str) -> Pin:
    """The pin of a name such as ``hub:Qwen/Qwen2.5-0.5B`` or ``local:mine``.

    Raises:
        PinError: when it is not pinned, with the command that pins it.
        ConfigError: for a lock file that is not one.
    """
    pins = read(kind)
    if name not in pins:
        what = name.removeprefix(HUB) if name.startswith(HUB) else f"PATH/TO/{name.removeprefix(LOCAL)}"
        raise PinError(f"{kind} {name!r} is not pinned; `python -m repro pin {what}` pins it")
    return pins[name]


def read(kind: Kind) -> dict[str, Pin]:
    """All pins of a kind, by name."""
    return {**getattr(_read(configs_dir() / FILE), kind), **getattr(_read(build_dir() / FILE), kind)}


def add(kind: Kind, name: str, pin: Pin) -> Path:
    """Write a pin down, in place of an earlier one of that name, and return the lock file."""
    project, own = configs_dir() / FILE, build_dir() / FILE
    to_project = name.startswith(HUB) and checkout() is not None and os.access(project.parent, os.W_OK)
    path = project if to_project else own
    _write(path, kind, {**getattr(_read(path), kind), name: pin})
    if to_project and name in getattr(_read(own), kind):
        _write(own, kind, {other: one for other, one in getattr(_read(own), kind).items() if other != name})
    return path


def _read(path: Path) -> Lock:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Lock()
    try:
        return checked(Lock, json.loads(text), path)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: not JSON ({error}); restore it, or remove it and pin again") from None


def _write(path: Path, kind: Kind, pins: dict[str, Pin]) -> None:
    lock = {**_read(path).model_dump(exclude_none=True)}
    lock[kind] = {name: pins[name].model_dump(exclude_none=True) for name in sorted(pins)}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text(json.dumps(lock, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(path)
