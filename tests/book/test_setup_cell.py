"""The cell that installs the package, in an environment of a few made-up distributions with pip as it is."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from repro import paths
from repro.book import hosted, notebook, setup_cell
from repro.errors import PinError
from repro.pins import lock

INSTALL = "entropy_mechanism-1.0-py3-none-any.whl"
# Runs a cell twice in one session, as a user might, and says what each came to.
SESSION = """
import json, sys
code, before = sys.argv[1:]
exec(before)
names = {}
for _ in range(2):
    try:
        exec(code, names)
        print(json.dumps("ready"))
    except Exception as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
"""


def wheel(folder: Path, name: str, version: str, needs: tuple[str, ...] = ()) -> Path:
    """A distribution with one module, as a wheel."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name.replace('_', '-')}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {need}" for need in needs]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"__version__ = {version!r}\n")
        archive.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/top_level.txt", f"{name}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


class Session:
    """An environment with its own pip, which finds wheels in one folder only."""

    def __init__(self, folder: Path) -> None:
        self.wheels, self.folder = folder / "wheels", folder / "venv"
        self.wheels.mkdir()
        venv.create(self.folder, with_pip=True, symlinks=True)
        for version in ("1.0", "2.0"):
            wheel(self.wheels, "numpy", version)
            wheel(self.wheels, "torch", version)
        wheel(self.wheels, "torch", "1.0+cu1")

    def python(self, *arguments: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        environment = kept | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "PIP_CONFIG_FILE": os.devnull}
        command = [self.folder / "bin" / "python", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def begin(self, *installed: str, needs: tuple[str, ...]) -> None:
        """An environment that has these distributions, and a package with these needs to install."""
        self.python("-m", "pip", "uninstall", "--quiet", "--yes", "entropy-mechanism", "numpy", "torch")
        self.python("-m", "pip", "install", "--quiet", *installed)
        wheel(self.wheels, "entropy_mechanism", "1.0", needs)

    def run(self, before: str = "") -> list[str]:
        """What two executions of the cell in a new process come to, after `before`."""
        code = notebook.setup(str(self.wheels / INSTALL))
        lines = self.python("-c", SESSION, code, before).splitlines()
        return [json.loads(line) for line in lines if line.startswith('"')]

    def version(self, name: str) -> str:
        return self.python("-c", f"from importlib import metadata; print(metadata.version({name!r}))").strip()


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Session:
    return Session(tmp_path_factory.mktemp("session"))


def test_what_satisfies_the_package_stays(session):
    session.begin("numpy==1.0", "torch==1.0+cu1", needs=("numpy>=1", "torch>=1"))
    assert session.run("import numpy, torch") == ["ready", "ready"]
    assert (session.version("numpy"), session.version("torch")) == ("1.0", "1.0+cu1")
    assert session.version("entropy-mechanism") == "1.0"


def test_a_replaced_module_in_use_asks_for_one_restart(session):
    session.begin("numpy==1.0", "torch==1.0", needs=("numpy>=2", "torch>=1"))
    [asked, again] = session.run("import numpy")
    assert asked.startswith("Stop: Restart the session once and run all cells again: numpy was in use while")
    assert "\n" not in asked and again == asked
    assert session.run("import numpy") == ["ready", "ready"]
    assert session.version("numpy") == "2.0"


def test_a_replaced_module_that_is_not_in_use_asks_for_nothing(session):
    session.begin("numpy==1.0", "torch==1.0", needs=("numpy>=2", "torch>=1"))
    assert session.run() == ["ready", "ready"]
    assert session.version("numpy") == "2.0"


def test_torch_is_never_replaced(session):
    session.begin("numpy==1.0", "torch==1.0+cu1", needs=("torch>=2",))
    for answer in session.run():
        assert answer.startswith("Stop: The package could not be installed. The end of what pip says:\n")
        assert "depends on torch>=2" in answer and "(constraint) torch==1.0+cu1" in answer
    assert session.version("torch") == "1.0+cu1"


def test_a_session_without_torch_gets_it(session):
    session.begin("numpy==1.0", needs=("torch>=2",))
    assert session.run() == ["ready", "ready"]
    assert session.version("torch") == "2.0"


IPYTHON = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.user_ns.update(json.loads(sys.argv[2]))
result = shell.run_cell(sys.argv[1])
sys.exit(type(result.error_in_exec).__name__ if result.error_in_exec else 0)
"""


def ipython(code: str, **names: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IPYTHON, code, json.dumps(names)]
    # IPython warns where another environment is active than that of its interpreter.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_where_the_package_is_the_cell_does_nothing():
    """Here it is, in whatever way; the requirement could not be installed."""
    done = ipython(notebook.setup("/none/such"))
    assert (done.returncode, done.stdout) == (0, "")


def test_the_notebook_stops_with_a_sentence_and_no_traceback():
    done = ipython(notebook.setup("/none/such"), outdated=["numpy", "pandas"])
    assert done.stderr.strip() == "Stop"
    assert done.stdout.strip().startswith("Restart the session once and run all cells again: numpy, pandas were in use")
    assert len(done.stdout.strip().splitlines()) == 1


DRIVE = """
import sys, types
sys.modules["google"], sys.modules["google.colab"] = types.ModuleType("google"), types.ModuleType("google.colab")
sys.modules["google.colab.drive"] = drive = types.ModuleType("google.colab.drive")
drive.mount = lambda folder: print("mounted", folder)
"""


@pytest.mark.parametrize("colab", [True, False])
def test_records_go_to_a_drive_that_is_mounted_for_them(colab):
    code = notebook.setup("/none/such").replace("in_drive = False  #", "in_drive = True  #")
    done = ipython((DRIVE if colab else "") + code + "\nprint(os.environ.get('REPRO_BUILD'))")
    if colab:
        assert done.stdout.splitlines() == ["mounted /content/drive", "/content/drive/MyDrive/entropy-mechanism"]
    else:
        assert done.stdout.strip().startswith("There is no Google Drive here:") and done.stderr.strip() == "Stop"


def test_the_cell_knows_the_package_by_its_name():
    assert setup_cell.PACKAGE == paths.DISTRIBUTION


MODEL, DATA = "Qwen/Qwen2.5-0.5B-Instruct", "openai/gsm8k"
NOTICE = "Profile cpu, which shows the recorded runs: "


@pytest.fixture
def colab(monkeypatch, tmp_path):
    """A session of Colab with a GPU, of whose Hub nothing is pinned yet."""
    for name in [name for name in os.environ if name.startswith("COLAB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setitem(sys.modules, "google.colab", object())
    monkeypatch.setenv("REPRO_BUILD", str(tmp_path / "build"))
    monkeypatch.setattr(lock, "configs_dir", lambda: tmp_path)
    monkeypatch.setattr(hosted, "_has_gpu", lambda: True)
    asked = []

    def pin(name, *, kind):
        asked.append((kind, name))
        made = lock.Pin(files={}, revision="0" * 40)
        lock.add(kind, name, made)
        return kind, name, made, tmp_path

    monkeypatch.setattr(hosted.pins, "pin", pin)
    return asked


@pytest.mark.parametrize(("module", "variable"), [("google.colab", None), (None, "COLAB_RELEASE_TAG")])
def test_in_colab_what_its_profile_needs_is_pinned_once(colab, monkeypatch, capsys, module, variable):
    if module is None:
        monkeypatch.delitem(sys.modules, "google.colab")
        monkeypatch.setenv(variable, "release")
    assert hosted.default_profile("claims/collapse") == "colab"
    assert colab == [("model", f"hub:{MODEL}"), ("dataset", f"hub:{DATA}")]
    said = capsys.readouterr().out
    assert said.startswith(f"Pinned {MODEL} at {'0' * 40}.\nPinned {DATA} at")
    assert 'Not yet run on a GPU.\nWith profile = "cpu" this notebook shows the recorded runs' in said
    assert hosted.default_profile("claims/collapse") == "colab" and len(colab) == 2


def test_elsewhere_and_where_that_cannot_be_the_default_profile_shows_records(colab, monkeypatch, capsys):
    assert hosted.default_profile("claims/law") == "cpu"
    assert capsys.readouterr().out == f"{NOTICE}profile colab does not have all of this notebook's runs.\n"

    def refuse(name, *, kind):
        raise PinError("no network")

    with monkeypatch.context() as patched:
        patched.setattr(hosted.pins, "pin", refuse)
        assert hosted.default_profile("claims/collapse") == "cpu"
    assert capsys.readouterr().out == f"{NOTICE}profile colab could not be pinned: no network.\n"
    monkeypatch.setattr(hosted, "_has_gpu", lambda: False)
    assert hosted.default_profile("claims/collapse") == "cpu"
    assert "there is no GPU, which profile colab needs: Runtime > Change runtime type" in capsys.readouterr().out
    monkeypatch.delitem(sys.modules, "google.colab")
    assert hosted.default_profile("claims/collapse") == "cpu"
    assert not capsys.readouterr().out and not colab
