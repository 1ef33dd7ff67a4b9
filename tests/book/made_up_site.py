"""What the tests of the book share: a site of made-up runs, and how a page of it is visited."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from playwright.sync_api import Page

from repro import paths

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
PROFILE = "made_up"
SEEDS = 3
# Small, so that one job trains several arms.
RUN = {"rollouts": 24, "eval_rollouts": 2, "prompts_per_rollout": 16, "eval_samples": 4, "eval_samples_last": 64}
# Of an arm with four updates per rollout.
STEPS = 4 * RUN["rollouts"]


def build_site(root: Path, groups: Sequence[str] | None = None) -> Path:
    """The site of a copy of the repository in which training is instant, made by `repro reproduce`.

    `groups` of arms are the profile's, all of them if None.
    """
    here = paths.root()
    root.mkdir()
    shutil.copy(here / "pyproject.toml", root)
    for name in ("bases", "configs", "workflow", "notebooks", "book", "examples", "benchmarks", "src"):
        shutil.copytree(here / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(here / "tests" / "sandbox" / "made_up.py", root / "src" / "repro" / "runs" / "training.py")
    groups = groups or list(yaml.safe_load((root / "configs" / "arms.yaml").read_text()))
    profile = {
        "description": "Made-up runs.",
        "base": "s",
        "seeds": list(range(SEEDS)),
        "run": RUN,
        "groups": dict.fromkeys(groups),
    }
    (root / "configs" / "profiles" / f"{PROFILE}.yaml").write_text(yaml.safe_dump(profile, sort_keys=False))
    environment = {name: value for name, value in os.environ.items() if name != "REPRO_BUILD"}
    environment |= {"PYTHONPATH": str(root / "src")}
    command = [sys.executable, "-m", "repro", "reproduce", "--profile", PROFILE]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "build" / PROFILE / "site"


@dataclass
class Visit:
    """A page and what happened while it loaded."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
