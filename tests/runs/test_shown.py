"""Runs that a profile shows of another: read from the records, never trained, and missed by name."""

from pathlib import Path

import pytest

from repro.errors import RecordError
from repro.runs import workflow
from repro.runs.profiles import Arm, Profile
from repro.runs.record import Found

FIELDS = {"max_steps": 6}
PROFILE = Profile(
    "whole",
    "",
    ("s",),
    {
        "grpo": Arm("one", (0,), ("s",), FIELDS),
        "kl": Arm("two", (0, 1), ("m",), FIELDS, shown="other"),
        "planned": Arm("two", (), ("m",), FIELDS, shown="other"),
    },
    Path("whole.yaml"),
)


@pytest.fixture
def written(monkeypatch):
    """Receipts by arm; records are current, but for those that a test says are not."""
    receipts = []
    monkeypatch.setattr(workflow, "write_receipt", lambda config, found: receipts.append((config.arm, config.seed)))
    return receipts


def statuses(monkeypatch, **by_arm):
    def find(config, *, made=True, recorded=True):
        return Found(by_arm.get(config.arm, "current"), Path("somewhere"))

    monkeypatch.setattr(workflow, "find", find)


def test_shown_runs_have_receipts_and_are_said(written, monkeypatch, capsys):
    statuses(monkeypatch)
    workflow._check_shown(PROFILE)
    assert written == [("kl", 0), ("kl", 1)]
    assert capsys.readouterr().out == "and 2 recorded runs of profile other, which are shown\n"
    workflow._check_shown(PROFILE.own)
    assert len(written) == 2 and not capsys.readouterr().out


def test_a_shown_run_without_a_record_names_the_profile_that_trains_it(written, monkeypatch):
    statuses(monkeypatch, kl="missing")
    said = r"profile whole needs 2 recorded runs, and 2 are missing \(kl-m-seed0-\w+, kl-m-seed1-\w+\); "
    with pytest.raises(RecordError, match=f"{said}`make reproduce PROFILE=other` trains them"):
        workflow._check_shown(PROFILE)
    assert not written
