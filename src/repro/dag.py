"""Run the workflow: check the records, hold the build folder's lock, start Snakemake, report."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from repro.errors import ReproError
from repro.paths import build_dir, checkout
from repro.profiles import Profile
from repro.runs.config import RunConfig
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
    root = checkout()
    if root is None:
        raise ReproError(
            "`repro reproduce` needs a checkout of the repository: its workflow, notebooks and book are not in the "
            "installed package"
        )
    build = build_dir()
    build.mkdir(parents=True, exist_ok=True)
    with _locked(build) as lock:
        counts = _check_records(profile)
        summary = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        print(f"profile {profile.name}: {sum(counts.values())} runs ({summary})", flush=True)
        _snakemake(root, build, profile, cores, lock)
    return build / profile.name / "site" / "index.html"


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


def _snakemake(root: Path, build: Path, profile: Profile, cores: str, lock: IO[str]) -> None:
    failed = build / "failed"
    failed.unlink(missing_ok=True)
    command = [sys.executable, "-m", "snakemake"]
    command += ["--snakefile", str(root / "workflow" / "Snakefile"), "--directory", str(build), "--cores", cores]
    command += ["--config", f"profile={profile.name}"]
    # Times decide, and receipts; the records' identities stand for configs and code.
    command += ["--rerun-triggers", "mtime", "--rerun-incomplete", "--keep-going", "--nolock"]
    command += ["--scheduler", "greedy"]
    # The jobs speak on standard output; what Snakemake says about them is for when something goes wrong.
    own_log = build / "logs" / "snakemake.log"
    own_log.parent.mkdir(exist_ok=True)
    with own_log.open("wb") as errors:
        code = subprocess.run(
            command, stderr=errors, env=_environment(build), pass_fds=[lock.fileno()], check=False
        ).returncode
    if code == 0:
        return
    logs = [build / name for name in failed.read_text(encoding="utf-8").splitlines()] if failed.exists() else []
    for log in logs or [own_log]:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        print(f"{log} ends with:", *lines, sep="\n  ", file=sys.stderr)
    what = f"{len(logs)} of the jobs failed" if logs else f"Snakemake failed with status {code}"
    where = ", ".join(map(str, logs or [own_log]))
    raise ReproError(f"{what} ({where}); what is done is kept, call again to go on")


def _environment(build: Path) -> dict[str, str]:
    """The environment with a cache folder that can be written, without which Snakemake does not start."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    nearest = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        return dict(os.environ)
    return {**os.environ, "XDG_CACHE_HOME": str(build / ".cache")}
