"""Records of runs: written whole or not at all, checked on reading, trained when missing.

A record is a folder ``<runs>/<folder>/`` with ``config.json``, its Parquet tables and ``provenance.json``, which holds
the checksums of the others and of itself. It is put together in ``<runs>/.partial/<folder>`` and renamed into place, so
that a folder under its final name is whole. A lock per run keeps two processes from training the same one: the second
waits and reads what the first has written. Only this module writes records.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from repro.errors import ConfigError, RecordError
from repro.paths import results_dir, runs_dir
from repro.runs import checkpoints, locks, ranks, saving
from repro.runs.attestations import is_attested
from repro.runs.config import RunConfig
from repro.runs.estimate import check_here
from repro.runs.fingerprint import code_fingerprint
from repro.runs.options import Options
from repro.runs.progress import Progress
from repro.runs.provenance import environment
from repro.runs.samplers import reproducible

Status = Literal["current", "missing", "stale", "damaged"]

CONFIG, PROVENANCE = "config.json", "provenance.json"
# Said of each session of a run that took several.
OF_A_SESSION = ("from_step", "started", "commit", "versions", "platform", "device_name")
# Asked for before a run is trained, so that a full disk is found first and not last. Records are a few MB.
SPACE_FOR_A_RECORD = 32 * 2**20


def tables_of(config: RunConfig) -> tuple[str, ...]:
    """Names of the tables that a record has."""
    return ("metrics", "evaluations", "tokens", "probe", *(("answers",) if config.eval_answers else ()))


class Trained(Protocol):
    """What training returns: a row per optimizer step, evaluation, token, probed step, kept answer; seconds by phase.

    ``threads`` is how many computed.
    """

    metrics: pd.DataFrame
    evaluations: pd.DataFrame
    tokens: pd.DataFrame
    probe: pd.DataFrame
    answers: pd.DataFrame
    timing: Mapping[str, float]
    threads: int


Train = Callable[..., Trained]
"""``train(config, *, on_step, options, checkpoints)``, as in :func:`repro.runs.training.train`."""


@dataclass(frozen=True)
class Run:
    """A recorded run. Tables are read when they are first asked for."""

    config: RunConfig
    path: Path

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def recorded(self) -> bool:
        """Whether the record comes with the repository; else it was made on this machine."""
        return self.path.is_relative_to(results_dir())

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """A row per optimizer step, measured before its update: row 1 is the base policy. Entropy in nats."""
        return self._table("metrics")

    @cached_property
    def evaluations(self) -> pd.DataFrame:
        """A row per evaluation on the validation set; step 0 is the base policy. Accuracies are fractions."""
        return self._table("evaluations")

    @cached_property
    def tokens(self) -> pd.DataFrame:
        """The completions of some optimizer steps, a row per token."""
        return self._table("tokens")

    @cached_property
    def probe(self) -> pd.DataFrame:
        """A row per probed optimizer step (see :mod:`repro.trainer.probe`); empty where the config asks for none."""
        return self._table("probe")

    @cached_property
    def answers(self) -> pd.DataFrame:
        """A row per answer that the evaluations kept, in words; empty where the config asks for none."""
        return self._table("answers") if "answers" in tables_of(self.config) else pd.DataFrame()

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Commit, code fingerprint, versions, device, threads, seconds (by phase too), seed, time and checksums.

        ``reproducible`` says how far a second run repeats this one. A run that was stopped and went on has
        ``sessions``, each with the step that it went on from.
        """
        return json.loads((self.path / PROVENANCE).read_text(encoding="utf-8"))

    def _table(self, name: str) -> pd.DataFrame:
        return pq.read_table(self.path / f"{name}.parquet").to_pandas()


class Found(NamedTuple):
    """What is known of a config's record: its status, where it lies, and what is wrong with it."""

    status: Status
    path: Path
    reason: str = ""


def find(config: RunConfig, *, made: bool = True, recorded: bool = True) -> Found:
    """Look for a config's record among this machine's runs (`made`), then among the repository's results (`recorded`).

    Raises:
        BaseError: when the base policy, which is part of a run's identity, is not there.
    """
    folders = (runs_dir(),) * made + (results_dir(),) * recorded
    found = [_examine(config, folder / config.folder) for folder in folders]
    return next((one for status in ("current", "damaged", "stale") for one in found if one.status == status), found[0])


def status(config: RunConfig) -> Status:
    """``current``, ``missing``, ``stale`` (computed by other code) or ``damaged`` (truncated or edited)."""
    return find(config).status


def load(config: RunConfig, *, made: bool = True, recorded: bool = True) -> Run:
    """Read a recorded run, from where `find` looks for it.

    Raises:
        RecordError: when it is missing, stale or damaged, naming the run, the file and the remedy.
        BaseError: when the base policy is not there.
    """
    found = find(config, made=made, recorded=recorded)
    if found.status == "current":
        return Run(config, found.path)
    if found.status == "missing":
        raise RecordError(f"run {config.name} is not recorded in {found.path.parent}; `make reproduce` trains it")
    if found.status == "stale":
        raise RecordError(
            f"run {config.name} is stale: {found.reason}; `repro attest` finds out whether its numbers "
            "would change, and `make reproduce` trains it again"
        )
    raise RecordError(
        f"run {config.name} is damaged: {found.reason}; `make reproduce` moves it aside and trains it again"
    )


def load_or_train(
    config: RunConfig,
    *,
    recorded: bool = True,
    progress: bool = True,
    options: Options | None = None,
    train: Train | None = None,
) -> Run:
    """Read a recorded run, or train and record it where it is missing, stale or damaged.

    Of several processes that train together all call this; the first one records, and the others may return before it
    has.

    A damaged record is moved to ``<runs>/.damaged``; a stale one stays until the new one replaces it. A run that was
    stopped goes on from its latest checkpoint.

    Args:
        config: the run.
        recorded: whether a record among the repository's results will do, as for `find`.
        progress: show step, entropy, accuracy and time left on standard error.
        options: how it is carried out; by default as the environment says.
        train: in place of :func:`repro.runs.training.train`.

    Raises:
        RecordError: when the record cannot be written.
        BaseError: when the base policy is missing.
        ConfigError: where a policy that several processes share the parameters of is to be saved.
    """
    options = options or Options.from_environment()
    if options.save_policy is not None and ranks.several() and ranks.sharded():
        raise ConfigError(
            "--save-policy does not put a sharded policy together: launch with configs/accelerate/ddp.yaml"
        )
    if not ranks.first():
        return _train_along(config, train, options)
    # A policy is not in the record: to save one that is not there yet, the run is trained again.
    saved = options.save_policy is None or saving.folder_of(options.save_policy, config).exists()
    found = find(config, recorded=recorded)
    if found.status == "current" and saved:
        ranks.same(False)
        return Run(config, found.path)
    with _lock(config):
        found = find(config, recorded=recorded)
        if found.status == "current" and saved:
            ranks.same(False)
            return Run(config, found.path)
        if found.status == "damaged":
            print(f"run {config.name} is damaged: {found.reason}", file=sys.stderr)
            set_aside(found.path)
        with _staged(config.folder) as folder:
            if train is None:
                from repro.runs.training import train

                check_here(config)
            made = environment(config)
            trained, sessions = _trained(config, train, made, options, progress)
            _write(folder, config, trained, made, sessions)
        checkpoints.discard(config)
    return Run(config, runs_dir() / config.folder)


def _train_along(config: RunConfig, train: Train | None, options: Options) -> Run:
    """A process's part in a run that the first one records, where that says so."""
    if ranks.same(None):
        if train is None:
            from repro.runs.training import train
        train(
            config, options=replace(options, save_policy=None, report_to=()), checkpoints=checkpoints.folder_of(config)
        )
    return Run(config, runs_dir() / config.folder)


def _trained(
    config: RunConfig, train: Train, made: Mapping[str, Any], options: Options, progress: bool
) -> tuple[Trained, list[dict[str, Any]]]:
    """What training returns, and the sessions that it took; checkpoints stay when it is stopped."""
    folder = checkpoints.folder_of(config)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        with _explain_write_errors(folder):
            sessions = checkpoints.begin(config, {**made, "started": started})
        ranks.same(True)
        with Progress(config.name) as on_step:
            trained = train(config, on_step=on_step if progress else None, options=options, checkpoints=folder)
    finally:
        checkpoints.end(config)
    return trained, sessions


def set_aside(path: Path) -> Path | None:
    """Move a damaged record to ``<runs>/.damaged`` and say so; None for one of the repository's own, which stay."""
    if path.parent != runs_dir():
        return None
    with _explain_write_errors(path):
        parent = runs_dir() / ".damaged"
        parent.mkdir(parents=True, exist_ok=True)
        target = parent / f"{path.name}-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        path.rename(target)
    print(f"moved it to {target}", file=sys.stderr)
    return target


def _examine(config: RunConfig, path: Path) -> Found:
    if not path.exists():
        return Found("missing", path)
    reason = _damage(config, path)
    if reason:
        return Found("damaged", path, reason)
    made = json.loads((path / PROVENANCE).read_bytes())
    recorded, current = made["code"], code_fingerprint(config, made["device"], made.get("ranks", 1))
    if recorded != current and not is_attested(results_dir(), config, recorded, current):
        return Found("stale", path, f"{path} was computed by code {recorded}, and the code is now {current}")
    return Found("current", path)


def _damage(config: RunConfig, path: Path) -> str:
    """What is wrong with a record, naming the file; empty when nothing is."""
    files = (CONFIG, *(f"{table}.parquet" for table in tables_of(config)))
    try:
        text = (path / PROVENANCE).read_bytes()
        provenance = json.loads(text)
        sound = provenance["checksum"] == _checksum(provenance) and text == _json(provenance)
        recorded = {name: provenance["sha256"][name] for name in files}
    except FileNotFoundError:
        return f"{path / PROVENANCE} is missing"
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"{path / PROVENANCE} cannot be read ({type(error).__name__}: {error})"
    if not sound:
        return f"{path / PROVENANCE} was truncated or edited: it does not have the checksum it states"
    for name, expected in recorded.items():
        try:
            content = (path / name).read_bytes()
        except FileNotFoundError:
            return f"{path / name} is missing"
        except OSError as error:
            return f"{path / name} cannot be read ({error.strerror})"
        if hashlib.sha256(content).hexdigest() != expected:
            return f"{path / name} was truncated or edited: its SHA-256 is not the one in {PROVENANCE}"
    if not config.agrees(json.loads((path / CONFIG).read_bytes())):
        return f"{path / CONFIG} holds another config than the folder's name says"
    return ""


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _checksum(provenance: Mapping[str, Any]) -> str:
    """SHA-256 of a provenance without its own checksum."""
    return hashlib.sha256(_json({k: v for k, v in provenance.items() if k != "checksum"})).hexdigest()


def _parquet(frame: pd.DataFrame) -> bytes:
    """A table as Parquet; equal tables give equal bytes in one version of pyarrow, so no pandas metadata is kept."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    # Numbers of float32 are in columns of float64, and their bytes compress well when they stand by place.
    encodings = {
        field.name: "BYTE_STREAM_SPLIT" if pa.types.is_floating(field.type) else "DELTA_BINARY_PACKED"
        for field in table.schema
        if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
    }
    others = [name for name in table.column_names if name not in encodings]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table, sink, compression="zstd", compression_level=19, use_dictionary=others, column_encoding=encodings
    )
    return sink.getvalue().to_pybytes()


def _write(
    folder: Path,
    config: RunConfig,
    trained: Trained,
    made: Mapping[str, Any],
    sessions: Sequence[Mapping[str, Any]],
) -> None:
    """Fill a record's folder with what training returned, of a run that took these sessions."""
    steps = trained.metrics["step"].tolist()
    if steps != list(range(1, config.max_steps + 1)):
        raise RecordError(
            f"run {config.name} is not recorded: training returned {len(steps)} rows of metrics where steps 1 to "
            f"{config.max_steps} need a row each; this is an error in repro.runs.training"
        )
    provenance = {
        **made,
        "started": sessions[0]["started"],
        "seconds": round(sum(value for name, value in trained.timing.items() if name != "generated_tokens"), 3),
        "sampler": config.sampler,
        "reproducible": reproducible(config, made["device"]),
        "threads": trained.threads,
        "timing": {name: round(value, 3) for name, value in trained.timing.items()},
        "seed": config.seed,
        "base_sha256": config.base_sha256,
    }
    if len(sessions) > 1:
        provenance["sessions"] = [{name: session[name] for name in OF_A_SESSION} for session in sessions]
    fill(folder, config, {table: getattr(trained, table) for table in tables_of(config)}, provenance)


def fill(folder: Path, config: RunConfig, tables: Mapping[str, pd.DataFrame], made: Mapping[str, Any]) -> None:
    """Write a record's files: config, tables, and ``made`` with the checksums of all.

    Everything is put together in memory first, so that its size is known.
    """
    content = {CONFIG: _json(config.to_dict())}
    content |= {f"{table}.parquet": _parquet(frame) for table, frame in tables.items()}
    provenance = {**made, "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}}
    content[PROVENANCE] = _json({**provenance, "checksum": _checksum(provenance)})
    needed = sum(map(len, content.values()))
    _require_space(folder, needed)
    with _explain_write_errors(folder, needed):
        for name, data in content.items():
            with (folder / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(folder)


@contextmanager
def _staged(name: str) -> Iterator[Path]:
    """A folder to fill, which becomes the record when the block ends well and vanishes when it does not.

    The caller holds the run's lock, so whatever lies there already was left by a process that is no more.
    """
    final, partial, replaced = (runs_dir() / part for part in (name, f".partial/{name}", f".partial/{name}.replaced"))
    with _explain_write_errors(partial, SPACE_FOR_A_RECORD):
        for leftover in (partial, replaced):
            if leftover.exists():
                shutil.rmtree(leftover)
        partial.mkdir(parents=True)
    try:
        _require_space(partial, SPACE_FOR_A_RECORD)
        yield partial
        with _explain_write_errors(final):
            if final.exists():
                final.rename(replaced)
            partial.rename(final)
            _sync_folder(final.parent)
    finally:
        for leftover in (partial, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _lock(config: RunConfig) -> Iterator[None]:
    """Hold the run's lock."""
    path = runs_dir() / ".locks" / config.folder

    def busy(holder: str) -> None:
        print(f"run {config.name} is being trained by another process; waiting for it ({holder})", file=sys.stderr)

    with ExitStack() as stack:
        with _explain_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locks.hold(path, busy))
        yield


def _require_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path).free
    if free < needed:
        raise RecordError(_disk_full(path, needed, free))


def _disk_full(path: Path, needed: int, free: int) -> str:
    return (
        f"cannot write {path}: the disk is full ({needed:,} bytes needed, {free:,} free); "
        "free some space or set REPRO_BUILD to a folder on another disk"
    )


@contextmanager
def _explain_write_errors(path: Path, needed: int = SPACE_FOR_A_RECORD) -> Iterator[None]:
    """Turn the system's refusals into errors that name the path, the space and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(next(parent for parent in (path, *path.parents) if parent.exists())).free
            raise RecordError(_disk_full(path, needed, free)) from error
        raise RecordError(
            f"cannot write {path}: {error.strerror}; make the folder writable or set REPRO_BUILD to one that is"
        ) from error


def _sync_folder(path: Path) -> None:
    """Have a folder's entries on the disk, where the drive can do that: some of a network cannot."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(descriptor)
