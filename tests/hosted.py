"""A notebook in a session as Colab gives one: ``python tests/hosted.py FOLDER [--python PYTHON]``.

In ``FOLDER/venv`` is what a session has before the notebook is opened. The notebook, as it is published, installs the
package from this checkout's last commit; no other file of the checkout is in reach. It is executed in an empty folder,
once to the end, and once with its kernel killed during training and then again. Prints what happened and how long it
took; ends with status 1 where something else happens than the book says. Downloads a torch, takes minutes.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import papermill

from repro import paths
from repro.book.notebook import blank

PREINSTALLED = (
    *("torch==2.13.0", "numpy==2.1.3", "pandas==2.2.3", "pyarrow==18.1.0", "datasets==4.0.0", "transformers==5.15.1"),
    *("matplotlib", "scipy", "ipykernel"),
)
KEPT = ("torch", "numpy", "pandas")
KERNEL = "hosted"


class Session:
    """An environment, kernels in it, and a folder where they work."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder, self.python = folder, folder / "venv" / "bin" / "python"
        self.work = folder / "content"
        self.work.mkdir(parents=True, exist_ok=True)
        if not self.python.exists():
            subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
        self.variables = {
            name: value for name, value in os.environ.items() if not name.startswith(("REPRO_", "PYTHON"))
        }

    def pip(self, *arguments: str) -> None:
        subprocess.run([self.python, "-m", "pip", *arguments, "--quiet"], env=self.variables, check=True)

    def reset(self) -> None:
        """Leave what a new session has, so far as the package's needs are concerned."""
        self.pip("uninstall", "--yes", paths.DISTRIBUTION, "trl", "accelerate", "seaborn")
        self.pip("install", *PREINSTALLED)

    def versions(self) -> dict[str, str]:
        code = "import json; from importlib.metadata import distributions as all\n"
        code += "print(json.dumps({one.name: one.version for one in all()}))"
        done = subprocess.run([self.python, "-c", code], env=self.variables, capture_output=True, check=True)
        return json.loads(done.stdout)

    def execute(self, cells: list[Any], values: dict[str, Any], **variables: str) -> nbformat.NotebookNode:
        """Execute cells in a new kernel; its process is in the file ``kernel``."""
        spec = self.folder / "jupyter" / "kernels" / KERNEL / "kernel.json"
        spec.parent.mkdir(parents=True, exist_ok=True)
        start = f'echo $$ > "{self.folder}/kernel"; exec "{self.python}" -m ipykernel_launcher -f "$0"'
        values_of = {
            "argv": ["/bin/sh", "-c", start, "{connection_file}"],
            "display_name": KERNEL,
            "language": "python",
        }
        unset = {name: "" for name in os.environ if name.startswith("PYTHON")}
        spec.write_text(json.dumps(values_of | {"env": unset | variables}))
        os.environ["JUPYTER_PATH"] = str(self.folder / "jupyter")
        metadata = {"kernelspec": {"name": KERNEL, "display_name": KERNEL, "language": "python"}}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
        return papermill.execute_notebook(
            notebook, None, values, kernel_name=KERNEL, cwd=self.work, progress_bar=False, log_output=False
        )


def told(what: str, since: float) -> None:
    print(f"{time.monotonic() - since:7.1f} s  {what}", flush=True)


def expect(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"FAILED: {what}")


def set_up(session: Session, cell: Any, before: str) -> None:
    """The first cell in a new session, after a cell of the user's."""
    session.reset()
    had = session.versions()
    cells = [nbformat.v4.new_code_cell(before), cell]
    since = time.monotonic()
    try:
        session.execute(cells, {})
        asked = "asks for nothing"
    except papermill.PapermillExecutionError as stopped:
        expect(stopped.ename == "Stop" and "\n" not in stopped.evalue, f"a sentence, not {stopped}")
        asked = stopped.evalue
    told(f"installation after `{before}`: {asked}", since)
    has = session.versions()
    changed = {name: f"{had[name]} to {has.get(name)}" for name in had if had[name] != has.get(name)}
    print(f"           replaced: {changed or 'nothing'}; new: {sorted(set(has) - set(had))}")
    for name in KEPT:
        expect(had[name] == has[name], f"{name} {had[name]} is kept")
    since = time.monotonic()
    session.execute(cells, {})
    told("the same after a restart", since)


def kill_in_training(session: Session, cells: list[Any], values: dict[str, Any], drive: Path) -> None:
    """Kill the kernel at a checkpoint, and execute the notebook again."""
    variables = {"REPRO_BUILD": str(drive), "REPRO_CHECKPOINT_MINUTES": "0"}
    checkpoints = drive / "runs" / ".partial"

    def first() -> None:
        try:
            session.execute(cells, values, **variables)
        except Exception as error:
            told(f"the first execution ends: {type(error).__name__}", since)

    since = time.monotonic()
    execution = threading.Thread(target=first)
    execution.start()
    while execution.is_alive() and not list(checkpoints.glob("*/checkpoint-*/study.json")):
        time.sleep(0.1)
    expect(execution.is_alive(), "training makes checkpoints")
    os.kill(int((session.folder / "kernel").read_text()), signal.SIGKILL)
    execution.join()
    expect(not list(drive.glob("runs/*/provenance.json")), "nothing is recorded yet")
    since = time.monotonic()
    session.execute(cells, values, **variables)
    [record] = drive.glob("runs/*/provenance.json")
    steps = [one["from_step"] for one in json.loads(record.read_text())["sessions"]]
    told(f"the second execution ends; sessions began at steps {steps}", since)
    expect(len(steps) == 2 and steps[1] > 0, "the run goes on from a checkpoint")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default=sys.executable, help="makes FOLDER/venv where there is none")
    arguments = parser.parse_args()
    session = Session(arguments.folder.resolve(), arguments.python)
    text = blank(paths.root() / "notebooks" / "01_collapse.py", f"git+file://{paths.root()}")
    cells = nbformat.reads(text, as_version=4).cells
    for before in ("import numpy, pandas", "import numpy", "pass"):
        set_up(session, cells[1], before)
    print(
        {
            name: version
            for name, version in session.versions().items()
            if name in (*KEPT, "datasets", "pyarrow", "transformers", "trl")
        }
    )
    since = time.monotonic()
    session.execute(cells, {})
    expect(not (session.work / "build").exists(), "nothing is trained that comes with the package")
    told("the notebook from the records in the package", since)
    since = time.monotonic()
    session.execute(cells, {"profile": "smoke", "seeds": [0]})
    expect(len(list(session.work.glob("build/runs/*/provenance.json"))) == 1, "a run is recorded")
    told("the notebook with a run of its own", since)
    kill_in_training(session, cells, {"profile": "smoke", "seeds": [1]}, session.folder / "drive")
    print("all as it should be")


if __name__ == "__main__":
    main()
