"""Logs of anybody's run as one kind of table, whatever wrote them.

`open_logs` finds the format by content and name and gives a `Log` per run in it. A `Log` knows its columns and reads
only those that are asked for, in pieces, so that a file may be larger than memory. Tables have a row per logged row, in
the order of logging; a value that a row lacks is NaN. Nested names are joined by "/".
"""

import csv
import json
import os
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from repro.errors import ReproError

# Rows that are kept of a log: no run logs more steps, and so many with five columns are 80 MB.
MOST_ROWS = 2_000_000
# A JSON document is parsed as a whole, into some ten times its size.
MOST_JSON_BYTES = 64 * 2**20
MOST_LINE_BYTES = 16 * 2**20
CHUNK = 100_000
# How trackio writes numbers that JSON lacks.
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
HEAD = 65536
TENSORBOARD = "tfevents"

Row = dict[str, float]


class AuditError(ReproError):
    """A log that cannot be audited; the message names it, what is wrong and the remedy."""


@dataclass(frozen=True)
class Log:
    """One run's log, not yet read.

    `read(names)` gives those of its columns, float64, in the order of logging.
    """

    name: str
    format: str
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], pd.DataFrame]


def open_logs(path: str | Path) -> list[Log]:
    """The logs of the runs in a file or folder.

    A folder may be a record of ours, a TRL output folder, one of TensorBoard event files, or trackio's.

    Raises:
        AuditError: nothing readable there, or a file that is broken, binary or empty.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _folder(path)
        if not path.is_file():
            exists = os.path.lexists(path)
            raise AuditError(f"{path} is {'neither a file nor a folder' if exists else 'not there'}; name a log")
        with path.open("rb") as file:
            head = file.read(HEAD)
        return _file(path, head)
    except (OSError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is nested too deeply"
        raise AuditError(f"cannot read {path}: {reason}; name a readable log") from error


def table_log(table: pd.DataFrame, name: str) -> Log:
    """A table in memory as a log."""
    table = pd.DataFrame(table)
    return Log(name, "table", tuple(map(str, table.columns)), lambda names: table[list(names)].map(_number))


def _folder(path: Path) -> list[Log]:
    if (path / "metrics.parquet").is_file() and (path / "evaluations.parquet").is_file():
        return [record(path)]
    states = [path / "trainer_state.json", *path.glob("checkpoint-*/trainer_state.json")]
    if states := [state for state in states if state.is_file()]:
        return [trainer_state(max(states, key=lambda state: state.stat().st_size), name=path.name)]
    if events := sorted(path.rglob(f"*{TENSORBOARD}*")):
        folders = dict.fromkeys(event.parent for event in events if event.is_file())
        return [tensorboard([event for event in events if event.parent == one]) for one in folders]
    if fragments := sorted(path.rglob("*.jsonl")):
        if all(_is_inbox(fragment) for fragment in fragments):
            return trackio_inbox(fragments)
    elif databases := sorted(path.glob("*.db")):
        return [log for database in databases for log in trackio(database)]
    raise AuditError(
        f"{path} has no log that is known (a run record, trainer_state.json, TensorBoard's event files, trackio's "
        "database); name the file itself"
    )


def _file(path: Path, head: bytes) -> list[Log]:
    if not head.strip():
        raise AuditError(f"{path} is empty; name a log with a row per step")
    if TENSORBOARD in path.name:
        return [tensorboard([path])]
    if head.startswith(b"PAR1"):
        return [parquet(path)]
    if head.startswith(b"SQLite format 3\0"):
        return trackio(path)
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, errors="replace")
    if "\0" in text or text.count("\N{REPLACEMENT CHARACTER}") > len(text) / 20:
        raise AuditError(f"{path} is binary and of no known format; export it as CSV or JSONL")
    if text.lstrip()[:1] not in ("{", "["):
        return [separated(path, encoding, text)]
    if path.name == "trainer_state.json":
        return [trainer_state(path)]
    first = text.lstrip().splitlines()[0]
    try:
        whole = isinstance(json.loads(first), dict) and path.suffix != ".json"
    except ValueError:
        whole = False
    if not whole:
        return [document(path)]
    return trackio_inbox([path]) if _is_inbox(path) else [lines(path)]


def separated(path: Path, encoding: str, head: str) -> Log:
    """CSV with commas, semicolons or tabs; lines before the header that start with # are left out."""
    comments = 0
    for header in head.splitlines():
        if header.strip() and not header.startswith("#"):
            break
        comments += 1
    else:
        raise AuditError(f"{path} has no line of column names in its first {HEAD // 1024} KB; is it a log?")
    separator = max(",;\t", key=header.count)
    names = tuple(name.strip() for name in next(csv.reader([header], delimiter=separator)))
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        places.setdefault(name, place)

    def chunks(wanted: Sequence[str]) -> Iterator[pd.DataFrame]:
        order = sorted(places[name] for name in wanted)
        options: dict[str, Any] = {"sep": separator, "encoding": encoding, "encoding_errors": "replace", "dtype": str}
        options |= {"header": None, "skiprows": comments + 1, "usecols": order, "chunksize": CHUNK}
        with pd.read_csv(
            path, names=list(range(len(names))), index_col=False, on_bad_lines="skip", **options
        ) as reader:
            for chunk in reader:
                chunk = chunk[[places[name] for name in wanted]].set_axis(list(wanted), axis=1)
                yield chunk.apply(lambda column: column.str.replace(",", ".")) if separator == ";" else chunk

    return Log(path.stem, "CSV", tuple(places), partial(_join, path, chunks))


def parquet(path: Path) -> Log:
    """A Parquet table."""
    with _opened(path) as file:
        names = tuple(file.schema_arrow.names)

    def chunks(wanted: Sequence[str]) -> Iterator[pd.DataFrame]:
        with _opened(path) as file:
            for batch in file.iter_batches(batch_size=CHUNK, columns=list(wanted)):
                yield batch.to_pandas()[list(wanted)]

    return Log(path.stem, "Parquet", names, partial(_join, path, chunks))


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise AuditError(f"{path} is a broken Parquet file; write it again") from error


def record(path: Path) -> Log:
    """A run record of this study."""
    return record_log(path.name, parquet(path / "metrics.parquet"), parquet(path / "evaluations.parquet"))


def record_log(name: str, metrics: Log, evaluations: Log) -> Log:
    """The two tables of a run record as one log: metrics of step s are measured before it, at s - 1 updates."""

    def read(wanted: Sequence[str]) -> pd.DataFrame:
        parts = []
        for log, before in ((metrics, 1), (evaluations, 0)):
            names = [one for one in wanted if one in log.columns]
            part = log.read(list(dict.fromkeys(["step", *names])))
            parts.append(part.assign(step=part["step"] - before))
        return pd.concat(parts, ignore_index=True).reindex(columns=list(wanted))

    columns = tuple(dict.fromkeys([*metrics.columns, *evaluations.columns]))
    return Log(name, "run record of this study", columns, read)


def lines(path: Path) -> Log:
    """JSONL, a row a line: verl's file logger, nested or flat, wandb's history, or any other."""
    return _from_rows(path.stem, "JSONL", lambda: (_flat(_without_data(row)) for row in _json_lines(path)))


def trackio_inbox(paths: Sequence[Path]) -> list[Log]:
    """JSONL fragments of trackio's inbox, a log per run in them."""

    def rows(run: str) -> Iterator[Row]:
        for one in _fragments(paths):
            if one.get("run") == run:
                yield _flat({"step": one.get("step"), **one["metrics"]})

    runs = dict.fromkeys(one.get("run") for one in _fragments(paths))
    return [_from_rows(str(run), "trackio inbox", partial(rows, run)) for run in runs]


def trackio(path: Path) -> list[Log]:
    """trackio's SQLite database of a project, a log per run in it."""

    def query(sql: str, *values: str) -> Iterator[tuple]:
        try:
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            try:
                yield from connection.execute(sql, values)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise AuditError(f"{path} is not a readable trackio database ({error}); export the run as CSV") from error

    def rows(run: str) -> Iterator[Row]:
        for step, metrics in query("SELECT step, metrics FROM metrics WHERE run_name = ? ORDER BY rowid", run):
            try:
                values = json.loads(metrics)
            except ValueError:
                raise AuditError(f"{path} has a row at step {step} that is not JSON; export the run as CSV") from None
            yield _flat({"step": step, **values})

    runs = [run for (run,) in query("SELECT run_name FROM metrics GROUP BY run_name ORDER BY min(rowid)")]
    if not runs:
        raise AuditError(f"{path} has no metrics; name the database of a project that has logged some")
    return [_from_rows(run, "trackio", partial(rows, run)) for run in runs]


def trainer_state(path: Path, name: str | None = None) -> Log:
    """The log history in a trainer_state.json of transformers and TRL."""
    state = _parsed(path)
    if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
        raise AuditError(f"{path} has no log_history; name the trainer_state.json of a checkpoint")
    rows = [_flat(row) for row in state["log_history"] if isinstance(row, dict)]
    return _from_rows(name or path.parent.name or path.stem, "trainer_state.json", lambda: iter(rows))


def document(path: Path) -> Log:
    """A JSON document: a list of rows, a table by columns (lists, or objects as pandas and wandb export them)."""
    content = _parsed(path)
    if isinstance(content, dict) and isinstance(content.get("log_history"), list):
        return trainer_state(path, name=path.stem)
    if isinstance(content, dict):
        lists = {key: value for key, value in content.items() if isinstance(value, list | dict)}
        columns = {key: list(value.values()) if isinstance(value, dict) else value for key, value in lists.items()}
        longest = max(map(len, columns.values()), default=0)
        content = [{key: v[place] for key, v in columns.items() if place < len(v)} for place in range(longest)]
        content = content or [json.loads(path.read_text(encoding="utf-8-sig"))]
    if not isinstance(content, list):
        raise AuditError(f"{path} is JSON without rows; name a log with a row per step")
    rows = [_flat(_without_data(row)) for row in content if isinstance(row, dict)]
    return _from_rows(path.stem, "JSON", lambda: iter(rows))


def tensorboard(paths: Sequence[Path]) -> Log:
    """TensorBoard event files of one folder, the later ones last."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise AuditError(f"{paths[0]} needs TensorBoard to be read: pip install 'tensorboard>=2.20,<3'") from error

    def rows() -> Iterator[Row]:
        for path in paths:
            try:
                for event in EventFileLoader(str(path)).Load():
                    for value in event.summary.value:
                        number = make_ndarray(value.tensor) if value.HasField("tensor") else np.array(())
                        if number.size == 1 and number.dtype.kind in "fiu":
                            yield {"step": float(event.step), value.tag: float(number.item())}
            except Exception as error:  # TensorBoard raises its own DataLossError and protobuf's DecodeError.
                raise AuditError(f"{path} is a broken event file ({type(error).__name__}); leave it out") from error

    return _from_rows(paths[0].parent.name, "TensorBoard", rows)


def _from_rows(name: str, kind: str, rows: Callable[[], Iterable[Row]]) -> Log:
    """A log from rows that can be gone through again and again: once for the columns, once for each reading."""
    names: dict[str, None] = {}
    for row in rows():
        names.update(dict.fromkeys(row))
    if not names:
        raise AuditError(f"{name} ({kind}) has no numbers; name a log with a row per step")

    def read(wanted: Sequence[str]) -> pd.DataFrame:
        columns = {one: array("d") for one in wanted}
        count = 0
        for row in rows():
            if not any(one in row for one in wanted):
                continue
            count = _counted(name, count + 1)
            for one, values in columns.items():
                values.append(row.get(one, np.nan))
        return pd.DataFrame({one: np.frombuffer(values) for one, values in columns.items()})

    return Log(name, kind, tuple(names), read)


def _join(path: Path, chunks: Callable[[Sequence[str]], Iterator[pd.DataFrame]], wanted: Sequence[str]) -> pd.DataFrame:
    """The wanted columns of all chunks, as numbers."""
    parts, count = [pd.DataFrame(columns=list(wanted), dtype=np.float64)], 0
    try:
        for chunk in chunks(wanted):
            count = _counted(str(path), count + len(chunk))
            parts.append(chunk.apply(pd.to_numeric, errors="coerce").astype(np.float64))
    except (ValueError, OSError) as error:
        raise AuditError(f"{path} breaks off or is damaged ({str(error).splitlines()[0]}); write it again") from error
    return pd.concat(parts[1:] or parts, ignore_index=True)


def _counted(name: str, count: int) -> int:
    if count > MOST_ROWS:
        raise AuditError(f"{name} has over {MOST_ROWS:,} rows; a log has one per step: leave out the others")
    return count


def _parsed(path: Path) -> Any:
    size = path.stat().st_size
    if size > MOST_JSON_BYTES:
        raise AuditError(
            f"{path} is one JSON document of {size / 2**20:.0f} MB, which has to be read whole, and at most "
            f"{MOST_JSON_BYTES >> 20} MB are; write it as JSONL"
        )
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise AuditError(f"{path} breaks off or is no JSON ({error}); write it again") from error


def _json_lines(path: Path) -> Iterator[dict]:
    """Objects of a JSONL file. A last line that breaks off, of a run still writing, is left out."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MOST_LINE_BYTES):
            number += 1
            if len(line) == MOST_LINE_BYTES:
                raise AuditError(f"{path} has a line of over {MOST_LINE_BYTES >> 20} MB; a log has short ones")
            try:
                row = json.loads(line.decode("utf-8-sig")) if line.strip() else None
            except ValueError as error:
                if line.endswith(b"\n"):
                    raise AuditError(f"{path} line {number} is not JSON; take it out") from error
                return
            if isinstance(row, dict):
                yield row


def _fragments(paths: Sequence[Path]) -> Iterator[dict]:
    for path in paths:
        for one in _json_lines(path):
            if one.get("kind") == "metric" and isinstance(one.get("metrics"), dict):
                yield one


def _is_inbox(path: Path) -> bool:
    first = next(_json_lines(path), {})
    return "kind" in first and "run" in first


def _without_data(row: dict) -> dict:
    """verl's {"step": 1, "data": {...}} as {"step": 1, ...}."""
    inner = row.get("data")
    return {**{key: value for key, value in row.items() if key != "data"}, **inner} if isinstance(inner, dict) else row


def _flat(row: dict, prefix: str = "") -> Row:
    """The numbers of a row, nested ones under names joined by "/"."""
    flat: Row = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}/")
        elif value in NOT_FINITE or (isinstance(value, int | float) and not isinstance(value, bool)):
            flat[f"{prefix}{key}"] = _number(value)
    return flat


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")
