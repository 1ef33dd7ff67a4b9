"""Who samples a run's rollouts, and how far a run repeats.

``own`` is the fast sampler for small policies, ``trl`` is transformers' ``generate`` as TRL calls it (or its continuous
batching, by a field of the trainer), ``vllm`` is vLLM in or beside the process, through TRL. vLLM is never a default:
its wheels want a CUDA of their own.
"""

import importlib
import time
import urllib.request
from dataclasses import fields
from typing import Literal

from repro.errors import ConfigError
from repro.runs import ranks
from repro.runs.config import RunConfig


def check(config: RunConfig) -> None:
    """Import what a run's sampler needs, and look for its server where it has one, before a model is loaded.

    Raises:
        ConfigError: where it cannot be imported, with the reason; where no server answers.
    """
    if config.sampler != "vllm":
        return
    try:
        importlib.import_module("vllm")
    except Exception as error:  # built for another CUDA it fails in more ways than ImportError
        raise ConfigError(
            f"sampler='vllm' needs the package vllm, which cannot be imported ({type(error).__name__}: {error}); "
            "install the release that TRL supports and that is built for this machine's CUDA, or set sampler to 'trl'"
        ) from error
    if config.trainer.get("vllm_mode") == "server":
        _wait_for_server(config)


def _wait_for_server(config: RunConfig) -> None:
    """Ask vLLM's server whether it is up, for as long as TRL would, ``vllm_server_timeout`` seconds."""
    from trl import GRPOConfig

    defaults = {field.name: field.default for field in fields(GRPOConfig)}
    asked = {name: config.trainer.get(name, default) for name, default in defaults.items()}
    url = asked["vllm_server_base_url"] or f"http://{asked['vllm_server_host']}:{asked['vllm_server_port']}"
    end = time.monotonic() + asked["vllm_server_timeout"]
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (OSError, ValueError) as error:
            if time.monotonic() < end and not isinstance(error, ValueError):
                time.sleep(1)
                continue
            model = config.base.removeprefix("hub:")
            raise ConfigError(
                f"no vLLM server answers at {url} ({error}); start one, `trl vllm-serve --model {model}`, on a GPU "
                "that this run does not train on, or set the trainer's vllm_server_base_url or vllm_server_timeout"
            ) from error


def reproducible(config: RunConfig, device: str) -> Literal["to the bit", "statistically"]:
    """How far a second run of the config on ``cpu`` or ``cuda`` repeats the first, with the same versions.

    On a GPU, and over several processes, sums are taken in no fixed order, and a sampler that batches by what is ready
    does so on any device.
    """
    batches = config.sampler == "vllm" or config.trainer.get("use_transformers_continuous_batching")
    return "statistically" if batches or device != "cpu" or ranks.several() else "to the bit"
