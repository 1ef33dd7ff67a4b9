"""Who samples a run's rollouts, and how far a run repeats.

``own`` is the fast sampler for small policies, ``trl`` is transformers' ``generate`` as TRL calls it (or its continuous
batching, by a field of the trainer), ``vllm`` is vLLM in or beside the process, through TRL. vLLM is never a default:
its wheels want a CUDA of their own.
"""

import importlib
from typing import Literal

from repro.errors import ConfigError
from repro.runs.config import RunConfig


def check(config: RunConfig) -> None:
    """Import what a run's sampler needs, before a model is loaded.

    Raises:
        ConfigError: where it cannot be imported, with the reason.
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


def reproducible(config: RunConfig, device: str) -> Literal["to the bit", "statistically"]:
    """How far a second run of the config on ``cpu`` or ``cuda`` repeats the first, with the same versions.

    On a GPU sums are taken in no fixed order, and a sampler that batches by what is ready does so on any device.
    """
    batches = config.sampler == "vllm" or config.trainer.get("use_transformers_continuous_batching")
    return "statistically" if batches or device != "cpu" else "to the bit"
