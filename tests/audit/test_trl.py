"""Logs that TRL and trackio write themselves, and the audit of a run while it trains."""

import math
import sys

import pytest
import torch
from trackio import fragments
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from repro.audit import AuditCallback, audit, audits
from repro.errors import ConfigError
from repro.policies.family import make_model, make_tokenizer
from repro.tasks import get_task
from tests.trainer.conftest import IGNORED, SETTINGS, FixedRollouts, numbered_prompts, text_reward

pytestmark = [pytest.mark.slow, *(pytest.mark.filterwarnings(one) for one in IGNORED)]
# A rollout serves four steps, so there are eight rewards; and four validations.
STEPS = 32


class Trainer(FixedRollouts, GRPOTrainer):
    pass


def make(folder, **settings):
    """A trainer of TRL's own on an untrained policy, that validates every eighth step."""
    torch.manual_seed(1)
    tokenizer = make_tokenizer(get_task("arithmetic"))
    values = {**SETTINGS, "output_dir": str(folder), "max_steps": STEPS, "eval_strategy": "steps", "eval_steps": 8}
    config = GRPOConfig(**values | {"per_device_eval_batch_size": 8} | settings)
    trainer = Trainer(
        model=make_model("s", tokenizer),
        reward_funcs=text_reward,
        args=config,
        train_dataset=numbered_prompts(),
        eval_dataset=numbered_prompts(4),
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that logged to TensorBoard, trackio and trainer_state.json, and audited itself every 12 logs."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORBOARD_LOGGING_DIR", str(folder / "events"))
        # Every module of trackio keeps a copy of the folder that it found at import.
        for name, module in list(sys.modules.items()):
            if name.startswith("trackio.") and hasattr(module, "TRACKIO_DIR"):
                patch.setattr(module, "TRACKIO_DIR", folder / "trackio")
        settings = {"report_to": ["tensorboard", "trackio"], "project": "audits", "trackio_space_id": None}
        trainer = make(folder / "out", save_strategy="steps", save_steps=STEPS, **settings)
        callback = AuditCallback.attach(trainer, every=12)
        trainer.train()

    return folder, trainer, callback


def logged(trainer, name):
    return [(row["step"], row[name]) for row in trainer.state.log_history if name in row]


@pytest.mark.parametrize("place", ["out", "events", "trackio"])
def test_what_trl_writes_is_read(run, place):
    folder, trainer, _ = run
    (found,) = audits(folder / place)
    expected = logged(trainer, "entropy")
    assert found.curve["step"].tolist() == [step for step, _ in expected] == list(range(1, STEPS + 1))
    assert found.curve["entropy"].tolist() == pytest.approx([value for _, value in expected], rel=1e-6)
    assert found.points.reward.tolist() == pytest.approx([value for _, value in logged(trainer, "reward")], rel=1e-6)
    columns = {column.role: column for column in found.columns}
    assert "TRL, exact" in columns["entropy"].means
    assert set(columns) == {"step", "entropy", "score", "groups", "truncation"}
    # Four validations are too few for a fit, so the training reward stands in.
    assert any("eval" in note and "has 4 values, too few" in note for note in found.notes)


def test_the_audit_is_in_the_trainers_log(run):
    folder, trainer, callback = run
    assert [step for step, _ in logged(trainer, "audit/state")] == [12, 24]
    (found,) = audits(folder / "out")
    history = found.curve[found.curve["step"] < 24]
    assert callback.latest.curve["entropy"].tolist() == history["entropy"].tolist()
    assert callback.latest.until == STEPS
    shares = logged(trainer, "audit/share")
    assert shares[1] == (24, callback.latest.answer("state").values["share"]) and math.isfinite(shares[1][1])
    (events,) = audits(folder / "events", entropy="train/audit/share")
    assert events.curve["entropy"].tolist() == pytest.approx([share for _, share in shares])


def test_it_only_watches(run, tmp_path):
    _, trainer, _ = run
    plain = make(tmp_path)
    plain.train()
    for name in ("loss", "entropy", "reward", "grad_norm"):
        assert logged(plain, name) == logged(trainer, name)


def test_it_is_attached_once_and_not_made_alone(tmp_path):
    trainer = make(tmp_path)
    AuditCallback.attach(trainer)
    with pytest.raises(ConfigError, match="attach only once"):
        AuditCallback.attach(trainer)
    with pytest.raises(ConfigError, match="every=0"):
        AuditCallback(trainer, every=0)
    with pytest.raises(ConfigError, match=r"call AuditCallback.attach"):
        AuditCallback()


def test_trackios_inbox(tmp_path):
    """What trackio itself writes into its inbox, where SQLite is not safe."""
    rows = [{"train/entropy": 0.5 - step / 100, "train/global_step": step} for step in range(12)]
    entries = [{"project": "p", "run": "r", "run_id": "1", "metrics": row, "step": i} for i, row in enumerate(rows)]
    writer = fragments.FragmentWriter()
    for part in (entries[:7], entries[7:]):
        writer.write_local([fragments.metric_record(entry) for entry in part], tmp_path / "inbox")
    found = audit(tmp_path / "inbox")
    assert found.name == "r" and found.curve["entropy"].tolist() == [row["train/entropy"] for row in rows]
