"""The whole path on stand-ins: pin, load, adapt, train, stop, go on, record, save, pin again, reload; no network."""

import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import trackio  # noqa: F401, every module of it keeps a copy of the folder that it found at import
from huggingface_hub import ModelCard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from repro import pins, policies
from repro.cli import main
from repro.errors import ConfigError, PinError
from repro.paths import DISTRIBUTION
from repro.runs import RunConfig, load_or_train, record, saving
from repro.runs.options import Options
from repro.runs.training import train
from tests.standins import checkpoint

SHORT = {
    "reward": "random",  # these policies solve nothing, and without spread nothing is learned
    "max_steps": 3,
    "prompts_per_rollout": 2,
    "num_generations": 4,
    "steps_per_generation": 2,
    "max_completion_length": 6,
    "learning_rate": 1e-2,
    "eval_steps": 2,
    "eval_prompts": 2,
    "eval_samples": 2,
    "eval_samples_last": 2,
}
LORA = RunConfig(
    base="local:llama", policy={"template": "chat", "lora": {"r": 4, "target_modules": ["q_proj", "v_proj"]}}, **SHORT
)


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRO_BUILD", str(tmp_path / "build"))
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:9")
    return tmp_path


class Stopped(Exception):
    """Something that ends training."""


def stopped(config, *, on_step, **more):
    def report(step, *_):
        if step == 3:
            raise Stopped

    return train(config, on_step=report, **more)


def test_adapters_on_a_chat_model_from_the_pin_to_the_saved_policy(places, monkeypatch, capsys):
    base = checkpoint(places / "llama", "llama")
    with pytest.raises(PinError, match="model 'local:llama' is not pinned"):
        load_or_train(LORA)
    pins.pin(str(base))
    options = Options(checkpoint_minutes=0, save_policy=places / "policies")
    with pytest.raises(Stopped):
        load_or_train(LORA, progress=False, options=options, train=stopped)
    run = load_or_train(LORA, progress=False, options=options)
    assert "goes on from step 2" in capsys.readouterr().err
    assert run.provenance["base_sha256"] == pins.get("model", "local:llama").digest
    assert run.path.name.startswith("llama-seed0-")

    folder = saving.folder_of(options.save_policy, LORA)
    saving.write_card(folder, run, ["1. Entropy collapses"])
    assert pins.pin(str(folder))[1] == f"local:{LORA.name}"
    saved, _ = policies.load(f"local:{LORA.name}")
    before, _ = policies.load("local:llama")
    moved = {name for name, value in before.named_parameters() if not torch.equal(value, saved.get_parameter(name))}
    assert moved == {f"model.layers.{n}.self_attn.{which}_proj.weight" for n in (0, 1) for which in "qv"}

    monkeypatch.setenv("REPRO_BUILD", str(places / "whole"))
    pins.pin(str(base))
    whole = load_or_train(LORA, progress=False, options=replace(options, save_policy=places / "again"))
    for table in ("metrics", "evaluations", "tokens"):
        pd.testing.assert_frame_equal(getattr(run, table), getattr(whole, table), check_exact=True)
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() == (places / "again" / LORA.name / weights).read_bytes()
    # A record does not hold the policy: it is trained again where it is not there, and never over another.
    calls = []

    def counted(*args, **more):
        calls.append(1)
        return train(*args, **more)

    load_or_train(LORA, progress=False, options=replace(options, save_policy=places / "again"), train=counted)
    assert calls == []
    with pytest.raises(ConfigError, match=f"{LORA.name} is there already: name another folder for the policy"):
        train(LORA, options=replace(options, save_policy=places / "again"))

    card = ModelCard.load(folder / "README.md", ignore_metadata_errors=False)
    about = card.data.to_dict()
    assert about["library_name"] == "transformers" and "base_model" not in about
    for text in (run.name, "- 1. Entropy collapses", "arXiv:2505.22617", "arXiv:2402.03300", run.provenance["code"]):
        assert text in card.content
    settings = card.content.split("```json")[1].split("```")[0]
    assert json.loads(settings) == run.config.content


def test_all_weights_of_a_sharded_base_model_with_transformers_sampler(places):
    config = RunConfig(
        base="local:qwen2",
        policy={"template": "r1_zero", "dtype": "bfloat16"},
        sampler="trl",
        trainer={"activation_checkpointing": True, "entropy_control": "kl_cov", "entropy_control_fraction": 0.05},
        **SHORT,
    )
    pins.pin(str(checkpoint(places / "qwen2", "qwen2", sharded=True, chat=False)))
    run = load_or_train(config, progress=False)
    assert run.metrics["step"].tolist() == [1, 2, 3] and record.status(config) == "current"
    assert (run.metrics["grad_norm"] > 0).all()
    assert run.provenance["sampler"] == "trl" and run.provenance["reproducible"] == "to the bit"


def test_a_tools_callback_changes_no_bit_and_shows_the_log(places, monkeypatch):
    config = RunConfig(base="xs", **SHORT)
    plain = train(config)
    for name, module in list(sys.modules.items()):
        if name.startswith("trackio.") and hasattr(module, "TRACKIO_DIR"):
            monkeypatch.setattr(module, "TRACKIO_DIR", places / "trackio")
    shown = train(config, options=Options(report_to=("tensorboard", "trackio")))
    for table in ("metrics", "evaluations", "tokens"):
        pd.testing.assert_frame_equal(getattr(plain, table), getattr(shown, table), check_exact=True)
    events = EventAccumulator(str(places / "build" / "tensorboard" / config.name)).Reload()
    entropies = [one.value for one in events.Scalars("train/entropy/response_mean")]
    np.testing.assert_allclose(entropies, plain.metrics["entropy/response_mean"], rtol=1e-6)
    (database,) = (places / "trackio").glob("*.db")
    assert database.stem == DISTRIBUTION
    with pytest.raises(ConfigError, match="report_to=mlflow is unknown; choose of tensorboard, trackio, wandb"):
        Options(report_to=("mlflow",))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="report_to=wandb needs the package wandb: install it, or leave it out"):
        train(config, options=Options(report_to=("wandb",)))


def test_a_policy_is_saved_by_the_command_with_the_claims_of_its_arm(places, capsys):
    fields = [part for name, value in SHORT.items() for part in ("--set", f"{name}={value}")]
    fields[fields.index("learning_rate=0.01")] = "learning_rate=1.0e-2"
    command = ["run", "--profile", "smoke", "--set", "base=xs", *fields, "--save-policy", str(places / "out")]
    assert main(command) == 0
    (folder,) = (places / "out").iterdir()
    card = (folder / "README.md").read_text()
    assert "- 1. " in card and "base_model" not in card and "arm `grpo`" in card
    assert (folder / "model.safetensors").exists()
    assert main(command) == 0 and "recorded already" in capsys.readouterr().out
