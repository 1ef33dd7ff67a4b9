"""Every format gives the same table, whatever wrote it."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from repro.audit import audit, audits, open_logs, readers
from repro.audit.columns import recognise
from repro.audit.readers import AuditError
from tests.audit import logs

# How close a format keeps numbers: TensorBoard's are float32, pandas' JSON has ten decimals.
PRECISION = {"events": 1e-6, "wandb_json": 1e-9}


@pytest.mark.parametrize("name", logs.WRITERS)
def test_every_format_gives_the_same_points(tmp_path, name):
    table = logs.run()
    found = audit(logs.WRITERS[name](tmp_path, table))
    assert found.points.step.tolist() == table["step"].tolist()
    assert np.allclose(found.points.entropy, table["entropy"], rtol=0, atol=PRECISION.get(name, 1e-12))
    assert np.allclose(found.points.reward, table["reward"], rtol=0, atol=PRECISION.get(name, 1e-12))


@pytest.mark.parametrize(
    ("name", "role", "column", "means"),
    [
        ("csv", "entropy", "entropy", "estimator unknown"),
        ("state", "entropy", "entropy", "TRL, exact, mean over all tokens"),
        ("state", "groups", "frac_reward_zero_std", "without spread"),
        ("verl", "entropy", "actor/entropy", "averaged as its loss is"),
        ("verl", "truncation", "response_length/clip_ratio", "cut at the length limit"),
        ("wandb_csv", "entropy", "lucky-sun-3 - train/entropy", "estimator unknown"),
        ("trackio", "step", "train/global_step", "optimizer steps"),
        ("record", "entropy", "entropy/response_mean", "the law's H"),
        ("record", "score", "accuracy/mean", "validation accuracy"),
    ],
)
def test_columns_and_estimators_are_named(tmp_path, name, role, column, means):
    found = {one.role: one for one in audit(logs.WRITERS[name](tmp_path, logs.run())).columns}
    assert found[role].name == column
    assert means in found[role].means


def test_a_charts_export_is_recognised_by_the_metric():
    found = recognise(["Step", "run-1 - actor/entropy", "run-1 - actor/entropy__MAX", "run-1 - critic/score/mean"], {})
    assert "verl, exact" in found["entropy"][0].means and "verl" in found["score"][0].means


def test_files_are_read_in_pieces(tmp_path, monkeypatch):
    """A file of many columns is never held whole: what is read grows with the columns that are asked for."""
    rows = 20_000
    wide = pd.DataFrame({f"column_{i}": np.random.default_rng(i).random(rows) for i in range(40)})
    path = logs.write_csv(tmp_path, wide.assign(step=np.arange(rows), entropy=0.5))
    monkeypatch.setattr(readers, "CHUNK", 500)
    (log,) = open_logs(path)
    tracemalloc.start()
    assert log.read(["step", "entropy"]).shape == (rows, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet", "events"])
def test_rows_are_bounded(tmp_path, monkeypatch, name):
    path = logs.WRITERS[name](tmp_path, logs.run())
    monkeypatch.setattr(readers, "MOST_ROWS", 20)
    with pytest.raises(AuditError, match="over 20 rows; a log has one per step"):
        audit(path)


def test_documents_and_lines_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MOST_JSON_BYTES", 100)
    with pytest.raises(AuditError, match="write it as JSONL"):
        audit(logs.write_json(tmp_path, logs.run()))
    monkeypatch.setattr(readers, "MOST_LINE_BYTES", 50)
    with pytest.raises(AuditError, match="a line of over"):
        audit(logs.write_jsonl(tmp_path, logs.run()))


def test_runs_of_one_database_are_told_apart(tmp_path):
    path = logs.write_inbox(tmp_path, logs.run())
    other = (path / "0123" / "00000000.jsonl").read_text().replace("run-1", "run-2")
    (path / "0123" / "00000003.jsonl").write_text(other)
    assert [(found.name, len(found.curve)) for found in audits(path)] == [("run-1", 41), ("run-2", 14)]
    with pytest.raises(AuditError, match="has 2 runs, `run-1`, `run-2`"):
        audit(path)


def test_without_tensorboard_the_remedy_is_named(tmp_path, monkeypatch):
    path = logs.write_events(tmp_path, logs.run())
    for name in ("tensorboard.backend.event_processing.event_file_loader", "tensorboard"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(AuditError, match="pip install 'tensorboard>=2.20,<3'"):
        audit(path)
