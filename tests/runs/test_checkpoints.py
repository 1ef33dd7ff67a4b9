"""A run that is killed goes on from its checkpoint, and its record has the bits of one that was not."""

import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from repro.errors import ConfigError
from repro.runs import RunConfig, checkpoints, load_or_train, record
from repro.runs.checkpointer import Checkpointer
from repro.runs.checkpoints import STUDY, newest, step_of, write_json
from repro.runs.options import Options
from repro.runs.training import train

# A rollout of two updates, so that step 3 is in the middle of one; a reward that draws; a method that draws; probes.
CONFIG = RunConfig(
    base="xs",
    max_steps=6,
    prompts_per_rollout=4,
    num_generations=4,
    steps_per_generation=2,
    reward="random",
    eval_steps=2,
    eval_prompts=8,
    eval_samples=2,
    eval_samples_last=2,
    eval_answers=1,
    probe_every=2,
    trainer={"entropy_control": "kl_cov", "entropy_control_tokens": "random", "entropy_control_fraction": 0.05},
)
OFTEN = Options(checkpoint_minutes=0)
KILLED = """
import os, signal
from repro.runs import RunConfig, load_or_train
from repro.runs.options import Options
from repro.runs.training import train

def killed(config, *, on_step, **more):
    def report(step, *rest):
        if step == 4:  # the checkpoint of step 3 is there, that of step 4 not yet
            os.kill(os.getpid(), signal.SIGKILL)
    return train(config, on_step=report, **more)

load_or_train(RunConfig.from_dict({config}), options=Options(checkpoint_minutes=0), train=killed)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRO_BUILD", str(tmp_path))
    return checkpoints.folder_of(CONFIG)


def test_a_run_killed_and_resumed_has_the_bits_of_one_that_was_not(folder, tmp_path, monkeypatch, capsys):
    code = KILLED.replace("{config}", repr(CONFIG.to_dict()))
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-3"]
    assert record.status(CONFIG) == "missing"

    steps = []

    def resumed(config, *, on_step, **more):
        return train(config, on_step=lambda step, *_: steps.append(step), **more)

    two = load_or_train(CONFIG, options=OFTEN, train=resumed)
    assert f"run {CONFIG.name} goes on from step 3" in capsys.readouterr().err
    assert steps == [4, 5, 6] and not folder.exists()
    monkeypatch.setenv("REPRO_BUILD", str(tmp_path / "whole"))
    one = load_or_train(CONFIG, progress=False)
    for table in record.tables_of(CONFIG):
        assert len(getattr(one, table))
        pd.testing.assert_frame_equal(getattr(one, table), getattr(two, table), check_exact=True)
        assert (one.path / f"{table}.parquet").read_bytes() == (two.path / f"{table}.parquet").read_bytes()
    tokens = [run.provenance["timing"]["generated_tokens"] for run in (one, two)]
    assert tokens[0] == tokens[1] > 0
    assert "sessions" not in one.provenance
    assert [session["from_step"] for session in two.provenance["sessions"]] == [0, 3]
    assert two.provenance["started"] == two.provenance["sessions"][0]["started"]


class Stopped(Exception):
    """Something that ends training."""


def stopped_at(step, seen):
    """A stand-in for training that goes on from the newest checkpoint and makes one of each step until it stops."""

    def train(config, *, on_step, options, checkpoints):
        begun = newest(checkpoints)
        seen.append(0 if begun is None else step_of(begun))
        for done in range(seen[-1] + 1, step + 1):
            (checkpoints / f"checkpoint-{done}").mkdir()
            write_json(checkpoints / f"checkpoint-{done}" / STUDY, {})
        raise Stopped

    return train


def test_a_checkpoint_that_was_cut_short_does_not_count(folder):
    for name in ("checkpoint-3", "checkpoint-20", "checkpoint-100"):
        (folder / name).mkdir(parents=True)
    assert newest(folder) is None
    for name in ("checkpoint-3", "checkpoint-20"):
        (folder / name / STUDY).write_text("{}")
    assert newest(folder).name == "checkpoint-20"


def test_a_checkpoint_of_other_code_or_device_is_not_gone_on_from(folder, monkeypatch, capsys):
    seen = []
    for code in ("one", "one", "two"):
        monkeypatch.setattr(record, "environment", lambda config, code=code: {"code": code, "device": "cpu"})
        with pytest.raises(Stopped):
            load_or_train(CONFIG, progress=False, train=stopped_at(3, seen))
    assert seen == [0, 3, 0]
    assert "has a checkpoint of step 3, but of another code; it begins anew" in capsys.readouterr().err
    sessions = json.loads((folder / checkpoints.SESSIONS).read_text())["sessions"]
    assert [session["code"] for session in sessions] == ["two"]


def test_nothing_stays_of_a_run_that_was_stopped_before_its_first_checkpoint(folder):
    seen = []
    with pytest.raises(Stopped):
        load_or_train(CONFIG, progress=False, train=stopped_at(0, seen))
    assert seen == [0] and not folder.exists()


def test_a_checkpoint_is_made_when_its_time_has_come_and_the_older_go(tmp_path):
    seconds = 0.0
    part = SimpleNamespace(state_dict=lambda: {"value": 0.1 + seconds})
    saver = Checkpointer(tmp_path, 60, {"part": part}, now=lambda: seconds)
    asked = []
    for step in range(1, 7):
        seconds += 25
        state, control = SimpleNamespace(global_step=step, max_steps=6), SimpleNamespace(should_save=False)
        saver.on_step_end(None, state, control)
        asked.append(control.should_save)
        if control.should_save:
            (tmp_path / f"checkpoint-{step}").mkdir()
            saver.on_save(None, state, control)
    # The last step needs none.
    assert asked == [False, False, True, False, False, False]
    assert json.loads((tmp_path / "checkpoint-3" / STUDY).read_text()) == {"part": {"value": 75.1}}
    seconds += 100
    (tmp_path / "checkpoint-5").mkdir()
    saver.on_save(None, SimpleNamespace(global_step=5), None)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-5"]


@pytest.mark.parametrize("text", ["ten", "-1", "nan", "inf"])
def test_minutes_that_are_none_are_refused(monkeypatch, text):
    monkeypatch.setenv("REPRO_CHECKPOINT_MINUTES", text)
    with pytest.raises(ConfigError, match="REPRO_CHECKPOINT_MINUTES=.*give minutes"):
        Options.from_environment()


def test_minutes_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("REPRO_CHECKPOINT_MINUTES", raising=False)
    assert Options.from_environment() == Options(checkpoint_minutes=10)
    monkeypatch.setenv("REPRO_CHECKPOINT_MINUTES", "0.5")
    assert Options.from_environment() == Options(checkpoint_minutes=0.5)
