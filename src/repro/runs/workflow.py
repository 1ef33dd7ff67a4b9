"""Run the workflow: check the records, hold the build folder's lock, start Snakemake, report."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import psutil

from repro.errors import RecordError, ReproError
from repro.paths import build_dir, checkout, results_dir, runs_dir
from repro.runs import executors, locks
from repro.runs.config import RunConfig
from repro.runs.profiles import Profile
from repro.runs.provenance import warn_of_versions
from repro.runs.record import Found, Run, find, set_aside

Target = Literal["train", "book", "reproduce"]

LOG_LINES = 15
# Seconds that Snakemake has to end after an interruption.
GRACE = 30
# Of the runs that lack a record, so many are named.
NAMED = 5


def write_receipt(config: RunConfig, found: Found) -> None:
    """Keep the file that tells Snakemake which record a run has; without a current one there is none.

    A receipt that is right keeps its time, and with it whatever was made from the record.
    """
    path = build_dir() / "receipts" / f"{config.name}.json"
    if found.status != "current":
        path.unlink(missing_ok=True)
        return
    checksum = Run(config, found.path).provenance["checksum"]
    text = json.dumps({"record": str(found.path), "checksum": checksum}) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def make(
    target: Target,
    profile: Profile,
    *,
    cores: str = "all",
    seconds: float | None = None,
    executor: str = executors.LOCAL,
    gpus: int = 0,
) -> None:
    """Bring a profile up to date: its runs (`train`), its book (`book`), or both (`reproduce`).

    A run counts as trained when this machine has its record. The book alone is made from the runs recorded on this
    machine or else in the repository, and nothing is trained for it.

    Args:
        target: what to make.
        profile: which runs.
        cores: processor cores to use, ``all`` or a number.
        seconds: stop after so long, if it is not done before; what is made then stays, and the next call goes on.
        executor: where the jobs run, see :mod:`repro.runs.executors`.
        gpus: that a job which trains asks its executor for.

    Raises:
        ConfigError: for an unknown executor, or one whose plugin is not installed.
        ReproError: outside a checkout; while another call works in the same build folder; when a job fails.
        RecordError: when a book is asked for and a run has no current record in either place.
        BaseError: when a base policy is missing.
    """
    root, build = _root(target), build_dir()
    where = executors.arguments(executor, root)
    build.mkdir(parents=True, exist_ok=True)

    def busy(holder: str) -> None:
        raise ReproError(
            f"another call is at work in {build} (process {holder}); wait for it, or set REPRO_BUILD to another folder"
        )

    # Snakemake inherits the lock, so that it outlives this process as Snakemake may.
    with locks.hold(build / ".lock", busy) as inherited:
        _check_records(profile, trains=target != "book")
        command = _command(root, build, profile, target, cores, where, gpus)
        _snakemake(build, command, _environment(build, where), inherited, seconds)


def would_make(
    profile: Profile, *, executor: str = executors.LOCAL, gpus: int = 0
) -> tuple[list[tuple[RunConfig, Found]], list[str]]:
    """What `make` would do for `reproduce`: a profile's runs, with what is known of their records, and rules to run.

    Only the receipts are written, to say what the records say.

    Raises:
        As `make`.
    """
    root, build = _root("reproduce"), build_dir()
    where = executors.arguments(executor, root)
    runs = [(config, find(config, recorded=False)) for config in profile.own.all_configs()]
    build.mkdir(parents=True, exist_ok=True)
    for config, found in runs:
        write_receipt(config, found)
    _check_shown(profile)
    command = [*_command(root, build, profile, "reproduce", "all", where, gpus), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(build, where))
    printed = done.stdout + done.stderr
    if done.returncode:
        raise ReproError(f"Snakemake failed with status {done.returncode}: {' '.join(printed.split())[-500:]}")
    # Its table of jobs, a rule and a count a line.
    _, _, table = printed.partition("Job stats:")
    rules = re.findall(r"^(\w+) +\d+ *$", table.partition("\n\n")[0], re.MULTILINE)
    return runs, [rule for rule in rules if rule not in ("total", "reproduce")]


def _root(command: str) -> Path:
    root = checkout()
    if root is None:
        raise ReproError(
            f"`repro {command}` needs a checkout of the repository: its workflow, notebooks, book and results are not "
            "in the installed package"
        )
    return root


def _check_records(profile: Profile, *, trains: bool) -> None:
    """Count the records and bring the receipts in line with them; move damaged ones aside, to be trained again.

    Raises:
        RecordError: when nothing is trained, and a record is missing, stale or damaged.
    """
    runs = [(config, find(config, recorded=not trains)) for config in profile.own.all_configs()]
    counts = Counter(found.status for _, found in runs)
    if not trains:
        _refuse_incomplete(profile, profile.name, runs)
    here = sum(found.path.parent == runs_dir() for _, found in runs)
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    where = summary if trains else f"{here} made here, {len(runs) - here} recorded in {results_dir().name}/"
    print(f"profile {profile.name}: {len(runs)} runs ({where})", flush=True)
    _check_shown(profile)
    current = [Run(config, found.path) for config, found in runs if found.status == "current"]
    warn_of_versions(run.provenance["versions"] for run in current)
    for config, found in runs:
        if found.status in ("stale", "damaged"):
            print(f"run {config.name} is {found.status} and will be trained again: {found.reason}", file=sys.stderr)
        if found.status == "damaged":
            set_aside(found.path)
        write_receipt(config, found)


def _check_shown(profile: Profile) -> None:
    """Write the receipts of the runs that a profile shows of others, from the records in the repository."""
    shown = [(arm.shown, config) for name, arm in profile.arms.items() if arm.shown for config in profile.configs(name)]
    for other in dict.fromkeys(name for name, _ in shown):
        runs = [(config, find(config)) for name, config in shown if name == other]
        _refuse_incomplete(profile, other, runs)
        print(f"and {len(runs)} recorded runs of profile {other}, which are shown", flush=True)
        for config, found in runs:
            write_receipt(config, found)


def _refuse_incomplete(profile: Profile, training: str, runs: Sequence[tuple[RunConfig, Found]]) -> None:
    """Refuse runs without current records, naming the profile that trains them."""
    counts = Counter(found.status for _, found in runs)
    if counts["current"] < len(runs):
        lacking = "; ".join(_spelled(status, runs) for status in ("missing", "stale", "damaged") if counts[status])
        raise RecordError(
            f"the book of profile {profile.name} needs {len(runs)} recorded runs, and {lacking}; "
            f"`make reproduce PROFILE={training}` trains them"
        )


def _spelled(status: str, runs: Sequence[tuple[RunConfig, Found]]) -> str:
    """Runs of a status: '7 are missing (a, b, c, d, e and 2 more)'."""
    names = [config.name for config, found in runs if found.status == status]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} {'is' if len(names) == 1 else 'are'} {status} ({', '.join(names[:NAMED])}{more})"


def _command(
    root: Path, build: Path, profile: Profile, target: Target, cores: str, where: Sequence[str], gpus: int
) -> list[str]:
    """Snakemake's command line; ``where`` are the arguments of an executor."""
    command = [sys.executable, "-m", "snakemake", target]
    # How many jobs run at once elsewhere is the executor's to say.
    command += [] if where and cores == "all" else ["--cores", cores]
    # Here a job that asks for GPUs has them alone; elsewhere the executor sees to that.
    command += ["--resources", f"gpu={gpus}"] if gpus and not where else []
    command += ["--snakefile", str(root / "workflow" / "Snakefile"), "--directory", str(build)]
    command += ["--config", f"profile={profile.name}", f"trains={target != 'book'}", f"gpus={gpus}"]
    # Receipts stand for records, and parameters of the rules for code and pages.
    command += ["--rerun-triggers", "mtime", "params", "input"]
    return [*command, "--rerun-incomplete", "--keep-going", "--nolock", "--scheduler", "greedy", *where]


def _snakemake(
    build: Path, command: Sequence[str], environment: Mapping[str, str], inherited: list[int], seconds: float | None
) -> None:
    failed = build / "failed"
    failed.unlink(missing_ok=True)
    # The jobs speak on standard output; what Snakemake says about them is for when something goes wrong.
    own_log = build / "logs" / "snakemake.log"
    own_log.parent.mkdir(exist_ok=True)
    with own_log.open("wb") as errors:
        code = _run(command, seconds, stderr=errors, env=environment, pass_fds=inherited)
    if code == 0:
        return
    logs = [build / name for name in failed.read_text(encoding="utf-8").splitlines()] if failed.exists() else []
    for log in logs or [own_log]:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        print(f"{log} ends with:", *lines, sep="\n  ", file=sys.stderr)
    what = f"{len(logs)} of the jobs failed" if logs else f"Snakemake failed with status {code}"
    where = ", ".join(map(str, logs or [own_log]))
    raise ReproError(f"{what} ({where}); what is done is kept, call again to go on")


def _run(command: Sequence[str], seconds: float | None, **settings: Any) -> int:
    """Run a command, for so long at most, and return its status: 0 too where its time was up."""
    # Where it may be stopped, in a session of its own: all of its jobs go with it. A run cut short leaves no record.
    limited = seconds is not None
    with subprocess.Popen(command, start_new_session=limited, **settings) as process, _terminated_with(process):
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return 0
        except KeyboardInterrupt:
            # What it started has got the signal too; nobody should find the prompt back before that is gone.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            raise
        finally:
            if limited:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _terminated_with(process: subprocess.Popen) -> Iterator[None]:
    """Make SIGTERM, which reaches one process alone, end all that this one started, as Ctrl-C does in a terminal."""

    def end(*_: object) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            started = psutil.Process(process.pid)
            for one in [started, *started.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.terminate()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _environment(build: Path, where: Sequence[str]) -> dict[str, str]:
    """The environment with a cache folder that can be written, without which Snakemake does not start."""
    # A job of another machine builds where this one does.
    environment = {**os.environ, "REPRO_BUILD": str(build)}
    if where:
        environment[executors.FOLDER] = where[-1]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    nearest = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        return environment
    return environment | {"XDG_CACHE_HOME": str(build / ".cache")}
