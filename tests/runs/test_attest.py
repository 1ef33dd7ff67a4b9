"""`repro attest`: what it replays, what it writes down, and what it refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from repro import paths
from repro.digests import sha256
from repro.runs import Run, RunConfig, attest, attestations, load, load_or_train, provenance, record, status
from repro.runs.profiles import Arm, Profile

PROFILE = Profile(
    "made-up",
    "",
    ("m",),
    {
        "grpo": Arm("collapse", (0, 1), ("m",), {"max_steps": 6, "eval_steps": 2}),
        "wide": Arm("fixes", (0,), ("m",), {"max_steps": 6, "eval_steps": 2, "epsilon_high": 0.28}),
    },
    Path("made-up.yaml"),
)


def measured(config: RunConfig, steps: int) -> SimpleNamespace:
    """What a run measures up to a step, the same on every call."""
    rng = np.random.default_rng(config.seed)
    values, accuracies = rng.random(config.max_steps)[:steps], rng.random(config.max_steps // 2 + 1)[: steps // 2 + 1]
    return SimpleNamespace(
        metrics=pd.DataFrame(
            {
                "step": range(1, steps + 1),
                "entropy/response_mean": values,
                "reward/mean": np.where(np.arange(steps) % 2, np.nan, values),
            }
        ),
        evaluations=pd.DataFrame({"step": range(0, steps + 1, 2), "accuracy/mean": accuracies}),
        tokens=pd.DataFrame(),
        probe=pd.DataFrame(),
        timing={},
        threads=1,
    )


def replay(config: RunConfig, steps: int) -> dict[str, pd.DataFrame]:
    return vars(measured(config, steps))


@pytest.fixture
def stale(build, monkeypatch) -> list[RunConfig]:
    """Three records of older code."""
    configs = PROFILE.all_configs()
    for config in configs:
        load_or_train(config, progress=False, train=lambda one, **_: measured(one, one.max_steps))
    for module in (record, provenance):
        monkeypatch.setattr(module, "code_fingerprint", lambda config, device, ranks=1: "today")
    assert [status(config) for config in configs] == ["stale"] * 3
    return configs


def test_an_arm_that_agrees_is_current_with_all_its_seeds(stale, tmp_path):
    replayed = []

    def watched(config, steps):
        replayed.append((config.arm, config.seed, steps))
        return replay(config, steps)

    found = list(attest.attest(PROFILE, 4, replay=watched))
    assert replayed == [("grpo", 0, 4), ("wide", 0, 4)]
    columns = ("metrics/step", "metrics/entropy/response_mean", "metrics/reward/mean")
    columns += ("evaluations/step", "evaluations/accuracy/mean")
    assert found == [attest.Replayed(arm, columns, "") for arm in ("grpo", "wide")]
    assert [status(config) for config in stale] == ["current"] * 3 and load(stale[1]).config.seed == 1
    entry, _ = json.loads((tmp_path / "results" / "attestations.json").read_text())
    assert entry["old"] == load(stale[0]).provenance["code"] and entry["new"] == "today"
    assert (entry["arm"], entry["steps"], entry["record"]) == ("grpo", 4, stale[0].folder)
    assert entry["columns"] == list(columns)
    assert set(entry) >= {"commit", "dirty", "date", "versions", "device", "device_name", "platform"}


def test_it_goes_on_where_it_was_and_speaks_of_one_code_only(stale, monkeypatch):
    next(attest.attest(PROFILE, 4, replay=replay))
    assert [status(config) for config in stale] == ["current", "current", "stale"]
    assert [one.arm for one in attest.attest(PROFILE, 4, replay=replay)] == ["wide"]
    assert list(attest.attest(PROFILE, 4, replay=replay)) == []
    for module in (record, provenance):
        monkeypatch.setattr(module, "code_fingerprint", lambda config, device, ranks=1: "tomorrow")
    assert [status(config) for config in stale] == ["stale"] * 3
    assert len(list(attest.attest(PROFILE, 4, replay=replay))) == 2
    assert [status(config) for config in stale] == ["current"] * 3
    assert len(attestations.read(attest.results_dir())) == 2


def other(table: str, change) -> attest.Replay:
    def changed(config, steps):
        tables = replay(config, steps)
        return {**tables, table: change(tables[table].copy())}

    return changed


def last_bit(frame):
    frame.loc[2, "entropy/response_mean"] = np.nextafter(frame.loc[2, "entropy/response_mean"], 1)
    return frame


def number_for_none(frame):
    frame.loc[1, "reward/mean"] = 0.5
    return frame


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (other("metrics", last_bit), r"step 3, column 'entropy/response_mean' of metrics: recorded 0\.\d+, now 0\.\d+"),
        (other("metrics", number_for_none), r"step 2, column 'reward/mean' of metrics: recorded nan, now 0.5"),
        (other("metrics", lambda one: one[:3]), r"metrics: 4 rows up to step 4 are recorded, and 3 now"),
        (other("evaluations", lambda one: one.drop(columns="accuracy/mean")), r"'accuracy/mean' is recorded, and not"),
    ],
)
def test_a_difference_is_named_and_nothing_is_written(stale, changed, message, tmp_path):
    (one, _) = attest.attest(PROFILE, 4, replay=changed)
    assert re.search(message, one.difference) and one.arm == "grpo" and one.columns == ()
    assert [status(config) for config in stale] == ["stale"] * 3
    assert not (tmp_path / "results").exists()


def test_a_measurement_of_later_steps_is_no_difference(stale):
    """The record's table has the column, empty so far; a replay that ends before has none."""
    run = load_or_train(stale[0], train=lambda one, **_: late(one))
    assert run.evaluations["accuracy/pass@16"].tolist()[-1] == 0.5
    columns, difference = attest.compare(run, replay(run.config, 4), 4)
    assert not difference and "evaluations/accuracy/pass@16" not in columns
    assert attest.compare(run, replay(run.config, 6), 6)[1].endswith(
        "'accuracy/pass@16' is recorded, and not measured now"
    )


def late(config):
    result = measured(config, config.max_steps)
    result.evaluations["accuracy/pass@16"] = [np.nan] * (len(result.evaluations) - 1) + [0.5]
    return result


def test_a_measurement_that_is_new_is_no_difference(stale):
    (one, _) = attest.attest(PROFILE, 4, replay=other("metrics", lambda frame: frame.assign(new=1.0)))
    assert not one.difference and "metrics/new" not in one.columns


TINY = """
description: One short run.
base: s
seeds: [0]
run: {max_steps: 3, eval_steps: 2, prompts_per_rollout: 8, steps_per_generation: 2, eval_prompts: 8, eval_samples: 2,
      eval_samples_last: 2, trainer: {entropy_control: kl_cov, entropy_control_fraction: 0.05}}
groups: {collapse: {}}
"""


@pytest.mark.slow
def test_a_real_run_outlives_a_rename_and_not_a_changed_constant(tmp_path):
    """In a copy of the repository: train, rename a variable of the trainer, attest; change a constant, attest."""
    root = tmp_path / "copy"
    for name in ("src/repro", "configs", "bases"):
        shutil.copytree(paths.root() / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(paths.root() / "pyproject.toml", root)
    (root / "configs/profiles/tiny.yaml").write_text(TINY)
    environment = {name: value for name, value in os.environ.items() if name != "REPRO_BUILD"}

    def repro(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "repro", *arguments, "--profile", "tiny"]
        return subprocess.run(
            command, cwd=root, env=environment | {"PYTHONPATH": str(root / "src")}, capture_output=True, text=True
        )

    def edit(name: str, old: str, new: str) -> None:
        text = (root / "src/repro" / name).read_text(encoding="utf-8")
        assert old in text
        (root / "src/repro" / name).write_text(text.replace(old, new), encoding="utf-8")

    made = repro("run")
    assert made.returncode == 0, made.stderr
    shutil.copytree(root, tmp_path / "before", ignore=shutil.ignore_patterns("build"))
    edit("seeds.py", "*key: object", "*parts: object")
    edit("seeds.py", "map(repr, key)", "map(repr, parts)")
    assert "stale" in repro("status").stdout
    agreed = repro("attest", "--steps", "2", "--cores", "1")
    assert agreed.returncode == 0, agreed.stdout + agreed.stderr
    assert agreed.stdout.endswith("1 arms agree, 0 differ\n") and "current" in repro("status").stdout
    edit("losses.py", "return torch.where(selected", "return 2 * torch.where(selected")
    assert "stale" in repro("status").stdout
    refused = repro("attest", "--steps", "2", "--cores", "1")
    assert refused.returncode == 1, refused.stderr
    assert re.search(r"^grpo: step \d, column '\S+' of metrics: recorded \S+, now \S+$", refused.stdout, re.MULTILINE)
    assert "stale" in repro("status").stdout
    # A record as another machine would have it, with its last bits changed.
    folder = next((root / "build/runs").glob("*-seed0-*"))
    edited_record(folder)
    edit("losses.py", "return 2 * torch.where(selected", "return torch.where(selected")
    (root / "results/attestations.json").unlink()
    assert repro("attest", "--steps", "2", "--cores", "1").returncode == 1
    both = repro("attest", "--steps", "2", "--cores", "1", "--against", str(tmp_path / "before"))
    assert both.stdout.endswith("1 arms agree, 0 differ\n"), both.stdout + both.stderr
    assert "current" in repro("status").stdout
    (entry,) = json.loads((root / "results/attestations.json").read_text())
    assert entry["replayed"] == "both"
    missing = repro("attest", "--against", str(tmp_path / "nowhere"))
    assert missing.returncode == 2 and "is no checkout" in missing.stderr


def edited_record(folder: Path) -> None:
    """Change a record's metrics in their last bits, and its provenance so that it is sound."""
    metrics = pd.read_parquet(folder / "metrics.parquet")
    metrics["loss"] = np.nextafter(metrics["loss"], 1)
    metrics.to_parquet(folder / "metrics.parquet")
    made = json.loads((folder / "provenance.json").read_bytes())
    made["sha256"]["metrics.parquet"] = sha256(folder / "metrics.parquet")
    made["checksum"] = record._checksum(made)
    (folder / "provenance.json").write_bytes(record._json(made))


def test_a_checkout_of_other_code_than_the_records_is_refused(stale, monkeypatch, tmp_path):
    def older(run, steps, checkout):
        return SimpleNamespace(code="older", **vars(measured(run.config, steps)))

    monkeypatch.setattr(attest, "_elsewhere", older)
    (one, _) = attest.attest(PROFILE, 4, replay=replay, against=tmp_path)
    assert "has code older, which neither computed the record" in one.difference
    assert [status(config) for config in stale] == ["stale"] * 3


def test_a_checkout_of_code_that_is_attested_for_the_records_stands_for_them(stale, monkeypatch, tmp_path):
    """Both codes replay an arm once, whatever code its seeds were recorded with."""
    config, steps = stale[0], 4
    made = record.find(stale[1]).path / "provenance.json"
    earlier = json.loads(made.read_bytes()) | {"code": "earlier"}
    made.write_bytes(record._json(earlier | {"checksum": record._checksum(earlier)}))
    recorded = Run(config, record.find(config).path).provenance["code"]
    for old in ("earlier", recorded):
        attestations.add(attest.results_dir(), {"arm": "grpo", "kind": config.kind, "old": old, "new": "between"})
    asked = []

    def elsewhere(run, steps, checkout):
        asked.append(run.config.arm)
        return SimpleNamespace(code="between", **vars(measured(run.config, steps)))

    monkeypatch.setattr(attest, "_elsewhere", elsewhere)
    *agreed, refused = attest.attest(PROFILE, steps, replay=replay, against=tmp_path)
    assert asked == ["grpo", "wide"]
    assert [one.difference for one in agreed] == ["", ""] and "between" in refused.difference
    written = {one["old"]: (one["through"], one["replayed"]) for one in attestations.read(attest.results_dir())}
    assert written == dict.fromkeys(("earlier", recorded), ("between", "both"))
    assert [status(one) for one in stale] == ["current", "current", "stale"]
