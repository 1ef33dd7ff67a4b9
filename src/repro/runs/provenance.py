"""What a record says of its making: code, versions and machine."""

import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from repro import __version__
from repro.paths import checkout
from repro.runs import ranks
from repro.runs.config import RunConfig
from repro.runs.fingerprint import code_fingerprint

VERSIONS_OF = ("torch", "transformers", "trl", "accelerate", "datasets", "tokenizers", "numpy", "pandas", "pyarrow")


def environment(config: RunConfig) -> dict[str, Any]:
    """What a result may depend on beside its config: code, versions and device."""
    torch = sys.modules.get("torch")
    cuda = torch is not None and torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    commit = _git("rev-parse", "HEAD")
    return {
        "commit": commit,
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")) if commit else None,
        "code": code_fingerprint(config, device, ranks.count()),
        "versions": versions(),
        "platform": platform.platform(),
        **({"ranks": ranks.count(), "sharded": ranks.sharded()} if ranks.several() else {}),
        "device": device,
        "device_name": torch.cuda.get_device_name() if cuda else _cpu_name(),
    }


def _git(*arguments: str) -> str | None:
    """Output of git in the checkout; None outside of one or without git."""
    folder = checkout()
    if folder is None:
        return None
    # No optional locks: runs beside each other, and the user's own git, must not wait for a question.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Versions of Python, this package and the libraries that training uses."""
    found = {"python": platform.python_version(), "repro": __version__}
    for name in VERSIONS_OF:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def warn_of_versions(recorded: Iterable[Mapping[str, str]]) -> None:
    """Say on standard error, in one line, which versions of the records are not those here; nothing where all are."""
    here = versions()
    others = {
        f"{name} {version} (here {here[name]})"
        for made in recorded
        for name, version in made.items()
        if name in here and name != "repro" and version != here[name]
    }
    if others:
        print(f"warning: records were computed with other versions: {', '.join(sorted(others))}", file=sys.stderr)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
