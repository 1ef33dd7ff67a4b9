"""Run the workflow: check the records, hold the build folder's lock, start Snakemake, report."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from repro.errors import ReproError
from repro.paths import build_dir, checkout, results_dir
from repro.runs.config import RunConfig
from repro.runs.profiles import Profile
from repro.runs.record import find, load, set_aside

LOG_LINES = 15


def receipt_path(config: RunConfig) -> Path:
    """The file that tells Snakemake that a run is recorded."""
    return build_dir() / "receipts" / f"{config.name}.json"


def receipt(config: RunConfig) -> str:
    """What the receipt of a recorded run says: which record it is for.

    Raises:
        RecordError: when the record is not current.
    """
    run = load(config)
    return json.dumps({"record": str(run.path), "checksum": run.provenance["checksum"]}) + "\n"


def write_receipt(config: RunConfig) -> None:
    """Tell Snakemake that a run is recorded."""
    path = receipt_path(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(receipt(config), encoding="utf-8")


def reproduce(profile: Profile, *, cores: str = "all") -> Path:
    """Bring a profile's runs, notebooks, verdicts and book up to date.

    Args:
        profile: what to make.
        cores: processor cores to use, ``all`` or a number.

    Returns:
        The book's first page.

    Raises:
        ReproError: outside a checkout; while another call works in the same build folder; when a job fails.
        BaseError: when a base policy is missing.
    """
    _work(profile, cores, "all")
    return build_dir() / profile.name / "site" / "index.html"


def train(profile: Profile, *, cores: str = "all", seconds: float | None = None) -> dict[str, int]:
    """Train and record what is missing of a profile's runs, side by side.

    Args:
        profile: what to train.
        cores: runs side by side, ``all`` for as many as processor cores.
        seconds: stop after so long, if it is not done before; what is recorded then stays, and the next call goes on.

    Returns:
        How many of the profile's runs have which status then: current, missing, stale, damaged.

    Raises:
        ReproError, BaseError: as `reproduce`.
    """
    _work(profile, cores, "runs", seconds)
    return dict(Counter(find(config).status for config in profile.all_configs()))


def keep(profile: Profile) -> list[Path]:
    """Copy the current records of a profile that lie in the build folder into the repository's ``results/``.

    A record of the same name that is there already is replaced; a copy that fails half-way leaves it as it was.

    Returns:
        The records' folders in ``results/``.

    Raises:
        ReproError: outside a checkout.
    """
    _root("keep")
    kept = []
    for config in profile.all_configs():
        found = find(config)
        target = results_dir() / config.name
        if found.status == "current" and found.path != target:
            draft = target.with_name(f".{config.name}.{os.getpid()}.tmp")
            shutil.copytree(found.path, draft)
            shutil.rmtree(target, ignore_errors=True)
            draft.rename(target)
            kept.append(target)
    return kept


def _root(command: str) -> Path:
    root = checkout()
    if root is None:
        raise ReproError(
            f"`repro {command}` needs a checkout of the repository: its workflow, notebooks, book and results are not "
            "in the installed package"
        )
    return root


def _work(profile: Profile, cores: str, target: str, seconds: float | None = None) -> None:
    """Have Snakemake make a target while the build folder is held."""
    root = _root("reproduce" if target == "all" else "train")
    build = build_dir()
    build.mkdir(parents=True, exist_ok=True)
    with _locked(build) as lock:
        counts = _check_records(profile)
        summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        print(f"profile {profile.name}: {sum(counts.values())} runs ({summary})", flush=True)
        _snakemake(root, build, profile, cores, target, lock, seconds)


def _check_records(profile: Profile) -> dict[str, int]:
    """Count records by status, move damaged ones aside and take back the receipts of all that are not current."""
    counts = dict.fromkeys(("current", "missing", "stale", "damaged"), 0)
    for config in profile.all_configs():
        found = find(config)
        counts[found.status] += 1
        path = receipt_path(config)
        if found.status == "stale":
            print(f"run {config.name} is stale and will be trained again: {found.reason}", file=sys.stderr)
        elif found.status == "damaged":
            print(f"run {config.name} is damaged and will be trained again: {found.reason}", file=sys.stderr)
            set_aside(found.path)
        if path.exists() and (found.status != "current" or path.read_text(encoding="utf-8") != receipt(config)):
            path.unlink()
    return counts


@contextmanager
def _locked(build: Path) -> Iterator[IO[str]]:
    """Hold the build folder. Snakemake inherits the lock, so that it outlives this process as Snakemake may."""
    with (build / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ReproError(
                f"another `repro reproduce` is at work in {build} (process {file.read().strip() or 'unknown'}); wait "
                "for it, or set REPRO_BUILD to another folder"
            ) from None
        except OSError as error:
            raise ReproError(
                f"cannot lock {build}: {error.strerror}; set REPRO_BUILD to a folder on a local disk"
            ) from error
        file.truncate(0)
        print(os.getpid(), file=file, flush=True)
        yield file


def _snakemake(
    root: Path, build: Path, profile: Profile, cores: str, target: str, lock: IO[str], seconds: float | None
) -> None:
    failed = build / "failed"
    failed.unlink(missing_ok=True)
    command = [sys.executable, "-m", "snakemake", target]
    command += ["--snakefile", str(root / "workflow" / "Snakefile"), "--directory", str(build), "--cores", cores]
    command += ["--config", f"profile={profile.name}"]
    # Times decide, and receipts; the records' identities stand for configs and code.
    command += ["--rerun-triggers", "mtime", "--rerun-incomplete", "--keep-going", "--nolock"]
    command += ["--scheduler", "greedy"]
    # The jobs speak on standard output; what Snakemake says about them is for when something goes wrong.
    own_log = build / "logs" / "snakemake.log"
    own_log.parent.mkdir(exist_ok=True)
    with own_log.open("wb") as errors:
        settings = {"stderr": errors, "env": _environment(build), "pass_fds": [lock.fileno()]}
        if seconds is None:
            code = subprocess.run(command, check=False, **settings).returncode
        else:
            code = _run_for(seconds, command, settings)
    if code == 0:
        return
    logs = [build / name for name in failed.read_text(encoding="utf-8").splitlines()] if failed.exists() else []
    for log in logs or [own_log]:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        print(f"{log} ends with:", *lines, sep="\n  ", file=sys.stderr)
    what = f"{len(logs)} of the jobs failed" if logs else f"Snakemake failed with status {code}"
    where = ", ".join(map(str, logs or [own_log]))
    raise ReproError(f"{what} ({where}); what is done is kept, call again to go on")


def _run_for(seconds: float, command: list[str], settings: dict[str, Any]) -> int:
    """Run a command for so long at most and return its status: 0 too where its time was up."""
    # A session of its own, so that all of its jobs can be stopped with it. A run cut short leaves no record.
    with subprocess.Popen(command, start_new_session=True, **settings) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _environment(build: Path) -> dict[str, str]:
    """The environment with a cache folder that can be written, without which Snakemake does not start."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    nearest = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        return dict(os.environ)
    return {**os.environ, "XDG_CACHE_HOME": str(build / ".cache")}
