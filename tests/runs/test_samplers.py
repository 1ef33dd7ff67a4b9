"""Samplers: what each needs is found missing before a model is loaded, and what each promises."""

import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, HTTPServer

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


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_vllms_server_is_found_before_the_model_is_loaded(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vllm", types.ModuleType("vllm"))
    with HTTPServer(("localhost", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://localhost:{server.server_port}"
        one = RunConfig(sampler="vllm", trainer={"vllm_mode": "server", "vllm_server_base_url": url})
        samplers.check(one)
        server.shutdown()
    args = trainer_config(one, str(tmp_path))
    assert (args.use_vllm, args.vllm_mode, args.vllm_server_base_url) == (True, "server", url)
    monkeypatch.setattr(policies, "load", lambda *_, **__: pytest.fail("the model was loaded first"))
    gone = RunConfig(sampler="vllm", base="hub:a/b", trainer={**one.trainer, "vllm_server_timeout": 0.0})
    with pytest.raises(ConfigError, match=f"no vLLM server answers at {url} .*`trl vllm-serve --model a/b`"):
        train(gone)
    # An address that is none is not waited for.
    wrong = RunConfig(sampler="vllm", trainer={"vllm_mode": "server", "vllm_server_base_url": "localhost 8000"})
    with pytest.raises(ConfigError, match="no vLLM server answers at localhost 8000"):
        samplers.check(wrong)


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
