"""Pinning: from a name on the Hub, or a folder or file on this machine, to an entry of the lock."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from repro.digests import sha256
from repro.errors import PinError
from repro.pins import files, hub
from repro.pins.lock import HUB, LOCAL, Kind, Pin, add

PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def pin(what: str, *, kind: Kind | None = None, revision: str | None = None) -> tuple[Kind, str, Pin, Path]:
    """Pin a repository of the Hub, or a folder or file of this machine, and write it into the lock.

    Args:
        what: ``Qwen/Qwen2.5-0.5B``, or a path that exists. A folder's name is the name of its pin.
        kind: model or dataset; found out where not given.
        revision: branch, tag or commit on the Hub; the newest of its main branch by default.

    Returns:
        Kind, name (``hub:...`` or ``local:...``), the pin and the lock file.

    Raises:
        PinError: when there is no such thing, it is not of that kind, or it cannot be used.
    """
    path = Path(what).expanduser()
    if path.exists() or what.startswith((".", "/", "~")):
        if revision is not None:
            raise PinError(
                f"--revision={revision} is for a name on the Hub, and {what} is on this machine; leave it out"
            )
        found, made = _of_path(path.resolve(), kind)
        name = LOCAL + path.resolve().name
    else:
        found, made = _of_hub(what.removeprefix(HUB), kind, revision)
        name = HUB + what.removeprefix(HUB)
    return found, name, made, add(found, name, made)


def _of_path(path: Path, kind: Kind | None) -> tuple[Kind, Pin]:
    if not path.exists():
        raise PinError(f"there is no {path}; name a folder that is there, or a model or data set on the Hub")
    if not PART.fullmatch(path.name):
        raise PinError(f"{path.name!r} cannot name a pin: rename it to letters, digits and . _ -")
    if path.is_file():
        files.used("dataset", [path.name], lambda name: "", path)
        return "dataset", Pin(files={path.name: sha256(path)}, folder=str(path.parent))
    names = files.all_names(path)
    kind = kind or ("model" if files.CONFIG in names else "dataset")

    def text(name: str) -> str:
        return (path / name).read_text(encoding="utf-8")

    used = files.used(kind, names, text, path)
    checksums = {name: sha256(path / name) for name in used}
    if kind == "dataset":
        return kind, Pin(files=checksums, folder=str(path))
    weights = next(path / name for name in used if name.endswith(".safetensors"))
    return kind, _of_model(json.loads(text(files.CONFIG)), checksums, _stored(weights), path, folder=str(path))


def _of_hub(repository: str, kind: Kind | None, revision: str | None) -> tuple[Kind, Pin]:
    kind, listing = hub.listing(repository, kind, revision)

    def text(name: str) -> str:
        return hub.download(repository, kind, listing.revision, name).read_text(encoding="utf-8")

    checksums = {}
    for name in files.used(kind, listing.sha256, text, repository):
        known = listing.sha256[name]
        checksums[name] = known or sha256(hub.download(repository, kind, listing.revision, name))
    if kind == "dataset":
        return kind, Pin(files=checksums, revision=listing.revision)
    config = json.loads(text(files.CONFIG))
    return kind, _of_model(config, checksums, listing.stored, repository, revision=listing.revision)


def _of_model(
    config: dict[str, Any], checksums: dict[str, str], stored: str | None, where: object, **place: Any
) -> Pin:
    return Pin(
        files=checksums, architecture=files.architecture(config, where), dtype=files.dtype(config, stored), **place
    )


def _stored(weights: Path) -> str | None:
    """What most tensors of a safetensors file are stored in, as that format names it."""
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    counted = Counter(one["dtype"] for name, one in header.items() if name != "__metadata__")
    return counted.most_common(1)[0][0] if counted else None
