"""The calibration compares what an audit said early with what came; its table counts rightly."""

import importlib
import json

import numpy as np
import pandas as pd
import pytest

from repro import paths
from tests.audit import logs


@pytest.fixture
def calibration(monkeypatch):
    """The benchmark module, which is not installed."""
    monkeypatch.syspath_prepend(str(paths.root()))
    return importlib.import_module("benchmarks.audit_calibration")


def written(folder, seed, left):
    """A record of 400 steps whose metrics have every step."""
    path = logs.write_record(folder, logs.run(left=left, tau=40, every=2, noise=0.002, seed=seed))
    metrics = pd.read_parquet(path / "metrics.parquet")
    metrics.assign(**{"reward": logs.B - logs.A * np.exp(metrics["entropy/response_mean"])}).to_parquet(
        path / "metrics.parquet"
    )
    (path / "config.json").write_text(json.dumps({"arm": "grpo", "seed": seed, "task": "arithmetic", "base": "s"}))
    return path.rename(folder / f"grpo-seed{seed}")


def test_rows_have_what_was_said_and_what_came(tmp_path, calibration):
    path = written(tmp_path, 1, left=0.01)
    early, _, late = calibration.rows(path)
    # The base policy has 0.61 nats; after 10 % of 400 steps 0.6 e^-1 + 0.01 = 0.23 are left, 38 % of it.
    assert early["part"] == 0.1 and early["share"] == pytest.approx(0.38, abs=0.05)
    assert early["state"] == "collapsing"
    # In the last eighth, steps 350 to 400, 0.6 e^-(350 to 400)/40 + 0.01 is at most 0.0101.
    assert early["true_share"] == pytest.approx(0.01 / 0.61, rel=0.01)
    assert early["true_score"] == pytest.approx(logs.B - logs.A * np.exp(0.01), abs=0.002)
    assert late["ceiling_low"] < logs.B - logs.A < late["ceiling_high"]
    assert early["score"] == "accuracy/mean" and early["seed"] == 1


def test_the_table_counts(calibration):
    """Four runs: alarms right, missed, false and rightly none; two of three intervals hold."""
    table = pd.DataFrame(
        {
            "part": 0.2,
            "run": list("abcd"),
            "task": "arithmetic",
            "seed": [1, 3, 5, 7],
            "state": ["collapsing", "holding", "collapsed", "holding"],
            "share": [0.6, 0.4, 0.4, 0.9],
            "entropy": [0.3, 2.0, 0.2, 3.0],
            "true_share": [0.01, 0.1, 0.5, 0.9],
            "ceiling_low": [0.4, 0.4, np.nan, 0.6],
            "ceiling_high": [0.6, 0.6, np.nan, 0.7],
            "true_ceiling": [0.5, 0.6, 0.5, 0.5],
            "forecast_low": [0.4, 0.4, np.nan, 0.4],
            "forecast_high": [0.6, 0.6, np.nan, 0.5],
            "forecast_estimate": [0.5, 0.5, np.nan, 0.45],
            "last_value": [0.4, 0.4, np.nan, 0.4],
            "sigmoid": [0.5, 0.5, np.nan, 0.5],
            "true_score": [0.51, 0.52, 0.5, 0.53],
        }
    )
    header, row = calibration.summary(table)
    assert len(header) == len(row)
    assert row == (
        *("20 %", "4", "3", "2 of 3", "2 of 3", "2.0", "12.0", "2.0"),
        *("1 of 2", "1 of 2", "1 of 2", "1 of 2", "1 of 2", "1 of 2"),
    )
    tasks = ["arithmetic", "arithmetic_hard", "countdown", "arithmetic"]
    text = calibration.markdown(table.assign(seed=[1, 3, 5, 4], task=tasks))
    assert text.startswith("**Chained arithmetic**: of 3 recorded runs the 2 with odd seeds.")
    assert "**Countdown**: of 1 recorded runs the 1 with odd seeds." in text
    assert "* - Ceilings covered\n  - 2 of 2\n" in calibration.markdown(table.assign(seed=[1, 3, 5, 4]))


def test_records_are_found_once(tmp_path, calibration):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, 1, left=0.01)
    assert [path.name for path in calibration.records([tmp_path / "first", tmp_path / "second"])] == ["grpo-seed1"]
    assert calibration.records([tmp_path / "none"]) == []
