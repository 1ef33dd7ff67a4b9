"""What a run needs: shapes from configs, memory by its parts, the refusal before anything is loaded, the record."""

import csv
from types import SimpleNamespace

import pytest
import torch

from benchmarks.estimate import CASES, OUTPUT
from repro.cli import main
from repro.errors import ConfigError
from repro.policies import family
from repro.policies.published import PUBLISHED
from repro.policies.settings import Lora
from repro.policies.shapes import KNOWN, Shape, read_shape, shape_of
from repro.runs import RunConfig, load_or_train
from repro.runs.estimate import Batch, check_here, memory, work
from repro.runs.profiles import load_profile
from repro.tasks import get_task

# Billions, as the models' cards give them.
CARDS = {"qwen2.5-0.5b": 0.49, "qwen2.5-1.5b": 1.54, "qwen2.5-3b": 3.09, "qwen2.5-7b": 7.61, "qwen2.5-32b": 32.8}
CARDS |= {"mistral-7b": 7.25, "mistral-nemo-12b": 12.2, "mistral-small-24b": 23.6, "llama-3.2-3b": 3.21}
CARDS |= {"llama-3.1-8b": 8.03, "deepseek-math-7b": 6.91}
SHAPE = Shape(hidden=8, layers=2, mlp=16, heads=2, kv_heads=1, vocabulary=100)
BATCH = Batch(sequences=3, sampled=5, prompt=4, completion=6)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_models_have_the_parameters_of_their_cards(name):
    assert KNOWN[PUBLISHED[name].base].parameters / 1e9 == pytest.approx(CARDS[name], rel=0.01)


def test_a_shape_counts_what_the_model_has():
    model = family.make_model("m", family.make_tokenizer(get_task("arithmetic")))
    shape = read_shape(model.config.to_dict())
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape_of("s").hidden == 64


def test_memory_is_the_sum_of_its_parts():
    """By hand. A layer: q and o 8x8, k and v 8x4, three of 8x16, two norms of 8: 592. All: 2 * 592 + 2 * 800 + 8."""
    assert SHAPE.parameters == 2 * 592 + 1600 + 8
    found = memory(RunConfig(), SHAPE, "cuda", BATCH)
    assert found.weights == found.gradients == 4 * 2792 and found.optimizer == 2 * 4 * 2792
    # A layer keeps 6 * 8 + 3 * 8 + 2 * 4 + 4 * 16 elements of each of 30 tokens, and the end 3 * 8.
    assert found.activations == 4 * 30 * (2 * 144 + 24)
    assert found.cache == 4 * 2 * 5 * 10 * 2 * 4 and found.sampled_logits == 3 * 5 * 100 * 4
    assert found.logits == 30 * 100 * 4 * 2 and found.head_gradient == 4 * 800
    assert memory(RunConfig(), SHAPE, "cpu", BATCH).logits == 4 * found.logits
    assert found.peak == found.moments[found.worst] == max(found.moments.values())
    checkpointed = RunConfig(trainer={"activation_checkpointing": True})
    assert memory(checkpointed, SHAPE, "cuda", BATCH).activations == 4 * 30 * (2 * 8 + 144 + 24)


def test_adapters_have_few_gradients_and_keep_all_weights():
    config = RunConfig(base="hub:a/b", policy={"dtype": "float32", "lora": {"r": 2}})
    # Of each layer 2 * (in + out): q and o 16, k and v 12, the MLP's 24 each.
    count = 2 * 2 * (16 + 12 + 12 + 16 + 3 * 24)
    assert SHAPE.adapter_parameters(config.policy.lora) == count
    assert SHAPE.adapter_parameters(Lora(r=2, target_modules=["q_proj"])) == 2 * 2 * 16
    found = memory(config, SHAPE, "cuda", BATCH)
    assert found.gradients == 4 * count and found.head_gradient == 0 and found.weights == 4 * (2792 + count)


def test_work_counts_passes():
    """A rollout of one update is not scored; checkpointing and adapters change the passes backwards."""
    plain = RunConfig(max_steps=2, steps_per_generation=1, prompts_per_rollout=1, num_generations=2)
    found = work(plain, SHAPE, BATCH)
    layers, attention = 2 * 592, 2 * 2 * 8 * 10
    assert found.update == 2 * 2 * 10 * (2 * (layers + attention) * 3 + 2 * 800 * 4)
    more = work(plain.replace(trainer={"activation_checkpointing": True}), SHAPE, BATCH).update - found.update
    assert more == 2 * 2 * 10 * 2 * (layers + attention)
    scored = plain.replace(max_steps=4, steps_per_generation=2)
    assert work(scored, SHAPE, BATCH).update > found.update


def test_a_gpu_that_is_too_small_is_refused_before_anything_is_loaded(monkeypatch):
    config = load_profile("paper-7b").configs("grpo8")[0]
    gpu = SimpleNamespace(total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU")
    expected = (
        r"grpo8 on hub:Qwen/Qwen2.5-7B needs an estimated 141.9 GiB while Adam steps, and GPU has 80.0: train adapters"
    )
    with pytest.raises(ConfigError, match=expected):
        check_here(config)
    long = config.replace(steps_per_generation=8, gradient_accumulation_steps=1)
    with pytest.raises(ConfigError, match="while it takes gradients, .*: raise steps_per_generation and gradient_acc"):
        check_here(long)
    check_here(load_profile("colab").configs("grpo")[0])
    check_here(RunConfig())
    monkeypatch.setenv("WORLD_SIZE", "8")
    check_here(config)


def test_a_cpu_only_says_so(monkeypatch, capsys):
    monkeypatch.setattr("os.sysconf", lambda name: 2**15)
    check_here(load_profile("paper-7b").configs("grpo8")[0])
    assert capsys.readouterr().err.startswith("warning: arm grpo8 on hub:Qwen/Qwen2.5-7B needs an estimated ")


def test_training_asks_first(build, monkeypatch):
    def refuse(config):
        raise ConfigError("too small")

    monkeypatch.setattr("repro.runs.record.check_here", refuse)
    with pytest.raises(ConfigError, match="too small"):
        load_or_train(RunConfig(max_steps=4), progress=False)


def test_the_hosted_profile_fits_its_gpu_and_its_hours(capsys):
    assert main(["estimate", "--profile", "colab"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "fits in one T4 or L4 or A100 or H100" in lines
    (hours,) = (line for line in lines if line.startswith("hours in all: T4 "))
    assert float(hours.split("T4 ")[1].split(",")[0]) < 3
    assert main(["estimate", "--profile", "colab", "--arm", "grpo"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:2] == ["grpo", "3"] and 3 * int(row[6]) < 60


def test_the_record_is_within_a_quarter():
    with OUTPUT.open(encoding="utf-8") as file:
        last = {row["case"]: row for row in csv.DictReader(file)}
    assert set(last) == {case.name for case in CASES} and len(last) >= 6
    for row in last.values():
        assert int(row["memory_mib"]) / int(row["estimated_mib"]) - 1 == pytest.approx(
            float(row["memory_error"]), abs=1e-3
        )
        assert abs(float(row["memory_error"])) < 0.25 and abs(float(row["time_error"])) < 0.25
