"""The cell that makes a hosted session ready: it stands in each .ipynb, where this package is not yet installed.

So it knows the standard library only. What is installed stays where this package can do with it, and torch always.
"""

import importlib
import os
import subprocess
import sys
import tempfile
from importlib import metadata

# As in repro.paths, which cannot be imported yet.
PACKAGE = "entropy-mechanism"
LINES = 12
IN_DRIVE = "/content/drive/MyDrive/entropy-mechanism"
# Distributions that are in use in another version than the installed one. A second execution knows them too.
outdated: list[str] = globals().get("outdated", [])


class Stop(Exception):
    """Ends the notebook's execution with a sentence in place of a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def set_up(requirement: str, *, in_drive: bool = False) -> None:
    """Install the package where it is missing.

    Args:
        requirement: what pip installs it from.
        in_drive: keep records and checkpoints in Google Drive, which is mounted for that.

    Raises:
        Stop: the session must be restarted first, because pip replaced what is in use; pip failed; there is no Drive.
    """
    if _version(PACKAGE) is None:
        outdated[:] = _install(requirement)
    if outdated:
        raise Stop(
            f"Restart the session once and run all cells again: {', '.join(outdated)} "
            f"{'was' if len(outdated) == 1 else 'were'} in use while another version was installed "
            "(Colab: Runtime > Restart session; Jupyter: Kernel > Restart)."
        )
    if in_drive:
        _use_drive()


def _install(requirement: str) -> list[str]:
    """Install the package, and return the distributions in use that this replaced."""
    print("Installing the package, which takes a minute or two.", flush=True)
    owners = metadata.packages_distributions()
    used = {owner for name in list(sys.modules) for owner in owners.get(name.partition(".")[0], ())}
    before = {name: _version(name) for name in used}
    torch = _version("torch")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        print(f"torch=={torch}" if torch else "", file=constraints, flush=True)
        pip = [sys.executable, "-m", "pip", "install", "--constraint", constraints.name, requirement]
        done = subprocess.run(pip, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    importlib.invalidate_caches()
    if done.returncode:
        said = "\n".join(done.stdout.strip().splitlines()[-LINES:])
        raise Stop(f"The package could not be installed. The end of what pip says:\n{said}")
    return sorted(name for name, version in before.items() if _version(name) != version)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _use_drive() -> None:
    try:
        drive = importlib.import_module("google.colab.drive")
    except ImportError:
        raise Stop("There is no Google Drive here: leave in_drive False, and set REPRO_BUILD to a folder.") from None
    drive.mount("/content/drive")
    os.environ["REPRO_BUILD"] = IN_DRIVE
