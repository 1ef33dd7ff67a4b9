"""Run records: whole or not there, checked on reading, named when damaged; progress."""

import errno
import io
import json
import os
import shutil
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from repro.errors import BaseError, RecordError
from repro.runs import RunConfig, load, load_or_train, provenance, record, status
from repro.runs.progress import Progress

CONFIG = RunConfig(base="m", max_steps=3, eval_steps=1, probe_every=2)


@dataclass
class Trainer:
    """A stand-in for training that counts its calls."""

    calls: int = 0
    error: BaseException | None = None
    rows: int | None = None
    seconds: float = 0.0

    def __call__(self, config, *, on_step, options=None, checkpoints=None):
        self.calls += 1
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        rng = np.random.default_rng(config.seed)
        rows = config.max_steps if self.rows is None else self.rows
        return SimpleNamespace(
            metrics=pd.DataFrame({"step": range(1, rows + 1), "entropy/response_mean": rng.random(rows)}),
            evaluations=pd.DataFrame({"step": range(rows + 1), "accuracy/mean": rng.random(rows + 1)}),
            tokens=pd.DataFrame({"token": ["=", "7"], "log_prob": [-0.5, np.nan], "selected": [True, False]}),
            probe=pd.DataFrame({"step": [1, 3], "lemma1": rng.random(2)} if config.probe_every else {}),
            timing={"generation": 1.23456, "update": 0.5, "generated_tokens": 321},
            threads=1,
        )


@pytest.fixture
def recorded(build) -> Path:
    return load_or_train(CONFIG, progress=False, train=Trainer()).path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def visible(build: Path) -> list[str]:
    """Names in the runs folder, and those of unfinished records."""
    runs = build / "runs"
    return sorted(path.name for path in [*runs.glob("[!.]*"), *(runs / ".partial").glob("*")])


def test_records_once_and_reads_back(build):
    train = Trainer()
    assert status(CONFIG) == "missing"
    run = load_or_train(CONFIG, progress=False, train=train)
    again = load_or_train(CONFIG, progress=False, train=train)
    assert train.calls == 1 and status(CONFIG) == "current"
    assert run.path == again.path == build / "runs" / CONFIG.folder and run.name == CONFIG.name
    expected = Trainer()(CONFIG, on_step=None)
    for table in ("metrics", "evaluations", "tokens", "probe"):
        assert len(getattr(expected, table))
        pd.testing.assert_frame_equal(getattr(load(CONFIG), table), getattr(expected, table))
    assert visible(build) == [CONFIG.folder]


def test_a_run_without_probes_has_an_empty_table_of_them(build):
    config = CONFIG.replace(probe_every=0)
    assert load_or_train(config, progress=False, train=Trainer()).probe.empty
    assert status(config) == "current" and len(load(config).probe.columns) == 0


def test_provenance_says_what_the_result_depends_on(recorded):
    made = load(CONFIG).provenance
    assert made["code"] == record.code_fingerprint(CONFIG, made["device"])
    assert made["threads"] == 1 and made["seed"] == 0
    assert made["timing"] == {"generation": 1.235, "update": 0.5, "generated_tokens": 321}
    assert made["base_sha256"] == CONFIG.base_sha256
    assert made["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert made["versions"]["pandas"] == pd.__version__
    assert made["seconds"] == 1.735 and made["sampler"] == "own" and made["reproducible"] == "to the bit"
    assert set(made) >= {"commit", "dirty", "device", "device_name", "platform", "started", "threads"}
    assert made["started"].endswith("+00:00")
    tables = [f"{table}.parquet" for table in ("evaluations", "metrics", "probe", "tokens")]
    assert sorted(made["sha256"]) == ["config.json", *tables]
    assert RunConfig.from_dict(json.loads((recorded / "config.json").read_text())) == CONFIG


def test_same_results_give_the_same_bytes(recorded, tmp_path, monkeypatch):
    first = contents(recorded)
    monkeypatch.setenv("REPRO_BUILD", str(tmp_path / "elsewhere"))
    second = contents(load_or_train(CONFIG, progress=False, train=Trainer()).path)
    assert {name for name in first if first[name] != second[name]} <= {"provenance.json"}


def edit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [edit, truncate, empty, Path.unlink])
@pytest.mark.parametrize(
    "name", ["config.json", *(f"{table}.parquet" for table in record.tables_of(CONFIG)), "provenance.json"]
)
def test_damage_is_named_kept_and_trained_again(build, recorded, name, harm, capsys):
    harm(recorded / name)
    harmed = contents(recorded)
    assert status(CONFIG) == "damaged"
    with pytest.raises(RecordError) as error:
        load(CONFIG)
    assert str(error.value).startswith(f"run {CONFIG.name} is damaged: {recorded / name} ")
    assert "`make reproduce`" in str(error.value)
    train = Trainer()
    assert load_or_train(CONFIG, progress=False, train=train).path == recorded
    assert train.calls == 1 and status(CONFIG) == "current"
    (kept,) = (build / "runs" / ".damaged").iterdir()
    assert kept.name.startswith(CONFIG.folder) and contents(kept) == harmed
    assert str(kept) in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"checksum": 3, "sha256": []}', b"\xff"])
def test_provenance_of_another_shape_is_damage(recorded, content):
    (recorded / "provenance.json").write_bytes(content)
    with pytest.raises(RecordError, match=r"damaged: .*provenance.json"):
        load(CONFIG)


def test_record_under_another_runs_name_is_damage(recorded):
    other = CONFIG.replace(seed=1)
    shutil.copytree(recorded, recorded.parent / other.folder)
    with pytest.raises(RecordError, match=r"config.json holds another config"):
        load(other)


def test_missing_record_names_the_remedy(build):
    with pytest.raises(RecordError, match=f"{CONFIG.name} is not recorded in .*runs; `make reproduce` trains it"):
        load(CONFIG)


def test_missing_base_is_found_before_training(build):
    train = Trainer()
    with pytest.raises(BaseError, match="`python -m repro bases "):
        load_or_train(RunConfig(base="xl"), train=train)
    assert train.calls == 0 and not build.exists()


def code_is(monkeypatch, text: str) -> None:
    for module in (record, provenance):
        monkeypatch.setattr(module, "code_fingerprint", lambda config, device, ranks: text)


def test_record_of_other_code_is_stale_and_replaced_only_by_a_whole_one(build, recorded, monkeypatch):
    old = contents(recorded)
    code_is(monkeypatch, "0123456789abcdef")
    assert status(CONFIG) == "stale"
    with pytest.raises(RecordError, match=r"is stale: .* and the code is now 0123456789abcdef; `repro attest` finds"):
        load(CONFIG)
    with pytest.raises(ZeroDivisionError):
        load_or_train(CONFIG, progress=False, train=Trainer(error=ZeroDivisionError()))
    assert contents(recorded) == old
    assert load_or_train(CONFIG, progress=False, train=Trainer()).provenance["code"] == "0123456789abcdef"
    assert status(CONFIG) == "current" and visible(build) == [CONFIG.folder]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_failed_training_leaves_nothing(build, error):
    with pytest.raises(type(error)):
        load_or_train(CONFIG, progress=False, train=Trainer(error=error))
    assert visible(build) == [] and status(CONFIG) == "missing"


@pytest.mark.parametrize("rows", [0, 2, 4])
def test_incomplete_training_is_not_recorded(build, rows):
    with pytest.raises(RecordError, match=f"returned {rows} rows of metrics where steps 1 to 3 need a row each"):
        load_or_train(CONFIG, progress=False, train=Trainer(rows=rows))
    assert visible(build) == []


def test_leftovers_of_a_killed_process_are_cleared(build):
    """What kill -9 leaves: a folder under .partial, whole or not, which is no record."""
    for leftover in (CONFIG.folder, f"{CONFIG.folder}.replaced"):
        folder = build / "runs" / ".partial" / leftover
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{")
    assert status(CONFIG) == "missing"
    load_or_train(CONFIG, progress=False, train=Trainer())
    assert visible(build) == [CONFIG.folder] and status(CONFIG) == "current"


def test_full_disk_is_found_before_training(build, monkeypatch):
    monkeypatch.setattr(record.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    train = Trainer()
    with pytest.raises(RecordError) as error:
        load_or_train(CONFIG, train=train)
    partial = build / "runs" / ".partial" / CONFIG.folder
    assert str(error.value) == (
        f"cannot write {partial}: the disk is full (33,554,432 bytes needed, 1,000,000 free); "
        "free some space or set REPRO_BUILD to a folder on another disk"
    )
    assert train.calls == 0 and visible(build) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_disk_that_fills_up_while_writing_leaves_nothing(build, monkeypatch, code):
    def fsync(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(record.os, "fsync", fsync)
        with pytest.raises(RecordError, match=r"cannot write .*the disk is full \([0-9,]+ bytes needed, [0-9,]+ free"):
            load_or_train(CONFIG, progress=False, train=Trainer())
    assert visible(build) == [] and status(CONFIG) == "missing"
    load_or_train(CONFIG, progress=False, train=Trainer())
    assert status(CONFIG) == "current"


def test_folder_that_cannot_be_written_is_named(build):
    build.write_text("a file where the folder should be")
    with pytest.raises(RecordError, match=f"cannot write {build}.*: Not a directory; make the folder writable or set"):
        load_or_train(CONFIG, train=Trainer())


def test_two_at_once_train_once(build, capsys):
    """Locks belong to open files, so threads stand for processes here; the workflow's tests have real ones."""
    train = Trainer(seconds=0.5)
    runs = []

    def work() -> None:
        runs.append(load_or_train(CONFIG, progress=False, train=train))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert train.calls == 1 and {run.path for run in runs} == {build / "runs" / CONFIG.folder} and len(runs) == 3
    assert capsys.readouterr().err.count("is being trained by another process; waiting for it") == 2


def test_results_of_the_repository_are_read_and_never_written(build, recorded, tmp_path, monkeypatch):
    results = tmp_path / "results"
    shutil.copytree(recorded, results / CONFIG.folder)
    shutil.rmtree(build)
    train = Trainer()
    assert load_or_train(CONFIG, train=train).path == results / CONFIG.folder
    assert train.calls == 0 and not build.exists()
    assert load(CONFIG).recorded and load(CONFIG, made=False).path == results / CONFIG.folder
    with pytest.raises(RecordError, match="is not recorded in .*runs"):
        load(CONFIG, recorded=False)
    truncate(results / CONFIG.folder / "tokens.parquet")
    harmed = contents(results / CONFIG.folder)
    assert status(CONFIG) == "damaged"
    assert load_or_train(CONFIG, progress=False, train=train).path == build / "runs" / CONFIG.folder
    assert train.calls == 1 and status(CONFIG) == "current" and contents(results / CONFIG.folder) == harmed
    assert not load(CONFIG).recorded
    with pytest.raises(RecordError, match="is damaged"):
        load(CONFIG, made=False)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_line_every_tenth_outside_a_terminal():
    stream = io.StringIO()
    with Progress("run-a", stream) as progress:
        for step in range(1, 101):
            progress(step, 100, 0.5, None if step < 50 else 0.25)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("run-a: step 10/100, entropy 0.500, 00:0") and lines[0].endswith(" left")
    assert lines[-1] == "run-a: step 100/100, entropy 0.500, accuracy 0.250, 00:00 left"


def test_progress_is_a_bar_in_a_terminal():
    stream = Terminal()
    with Progress("run-a", stream) as progress:
        progress(1, 2, 0.5, None)
        progress(2, 2, 0.4, 0.25)
    last = stream.getvalue().rstrip().split("\r")[-1]
    assert last.startswith("run-a: 100%") and "2/2" in last and "entropy 0.400, accuracy 0.250" in last


def test_progress_is_shown_unless_told_otherwise(build, capsys):
    def train(config, *, on_step, **_):
        assert on_step is None or on_step(config.max_steps, config.max_steps, 0.5, 0.25) is None
        return Trainer()(config, on_step=on_step)

    load_or_train(CONFIG, progress=False, train=train)
    assert capsys.readouterr().err == ""
    shutil.rmtree(build)
    load_or_train(CONFIG, train=train)
    assert f"{CONFIG.name}: step 3/3, entropy 0.500, accuracy 0.250, 00:00 left" in capsys.readouterr().err
