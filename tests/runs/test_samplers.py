"""Samplers: what each needs is found missing before a model is loaded, and what each promises."""

import sys

import pytest

from repro import policies
from repro.errors import ConfigError
from repro.runs import RunConfig, samplers
from repro.runs.trainer_config import trainer_config
from repro.runs.training import train

VLLM = RunConfig(sampler="vllm", trainer={"vllm_gpu_memory_utilization": 0.5})


@pytest.mark.parametrize("reason", ["libcudart.so.13: cannot open shared object file", None])
def test_a_vllm_that_cannot_be_imported_is_refused_before_the_model_is_loaded(tmp_path, monkeypatch, reason):
    monkeypatch.setattr(policies, "load", lambda *_, **__: pytest.fail("the model was loaded first"))
    monkeypatch.setitem(sys.modules, "vllm", None)
    expected = "halted; None in sys.modules"
    if reason:
        monkeypatch.delitem(sys.modules, "vllm")
        (tmp_path / "vllm.py").write_text(f"raise ImportError({reason!r})")
        monkeypatch.syspath_prepend(tmp_path)
        expected = reason
    with pytest.raises(ConfigError, match=f"sampler='vllm' needs the package vllm.*{expected}.*set sampler to 'trl'"):
        train(VLLM)


def test_vllm_is_trls_own(tmp_path):
    args = trainer_config(VLLM, str(tmp_path))
    assert (args.use_vllm, args.vllm_mode, args.vllm_gpu_memory_utilization) == (True, "colocate", 0.5)
    assert not trainer_config(RunConfig(sampler="trl"), str(tmp_path)).use_vllm
    batching = {"use_transformers_continuous_batching": True}
    assert trainer_config(
        RunConfig(sampler="trl", trainer=batching), str(tmp_path)
    ).use_transformers_continuous_batching
    with pytest.raises(ConfigError, match="with sampler='vllm'; remove it, or set sampler to 'trl'"):
        trainer_config(VLLM.replace(trainer=batching), str(tmp_path))


@pytest.mark.parametrize(
    ("fields", "device", "promise"),
    [
        ({}, "cpu", "to the bit"),
        ({"sampler": "trl"}, "cpu", "to the bit"),
        ({"sampler": "trl", "trainer": {"use_transformers_continuous_batching": True}}, "cpu", "statistically"),
        ({"sampler": "vllm"}, "cpu", "statistically"),
        ({}, "cuda", "statistically"),
    ],
)
def test_a_record_says_how_far_it_repeats(fields, device, promise):
    assert samplers.reproducible(RunConfig(**fields), device) == promise
