"""Several processes that train one run together, as `accelerate launch` starts them: a part of each micro-batch each.

The first of them, rank 0, holds the run's lock and writes its record; the others train along. What a run on one process
computes is not touched: everything here acts on several alone, and stands in blocks ``if ranks.several():``, which the
fingerprint of a run on one process leaves out.
"""

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from repro.errors import ConfigError
from repro.runs.config import RunConfig

if TYPE_CHECKING:
    from accelerate import PartialState
    from torch.nn import Module


def count() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def index() -> int:
    """The number of this process among them, from 0."""
    return int(os.environ.get("RANK", "0"))


def several() -> bool:
    """Whether this process is one of several."""
    return count() > 1


def first() -> bool:
    """Whether this process is the one that writes."""
    return index() == 0


def same(value: Any) -> Any:
    """The first process's value, on all of them; all have to ask."""
    if not several():
        return value
    from accelerate.utils import broadcast_object_list

    _join()
    return broadcast_object_list([value])[0]


def wait() -> None:
    """Until all processes are here."""
    _join().wait_for_everyone()


def _join() -> "PartialState":
    """Accelerate's state of processes that know each other.

    Without a GPU accelerate leaves each process alone unless it is told to use the CPU, and of several processes
    `accelerate launch` tells none.

    Raises:
        ConfigError: where they do not find each other.
    """
    import torch
    from accelerate import PartialState

    cpu = not torch.cuda.is_available()
    if cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    state = PartialState(cpu=cpu)
    if state.num_processes != count():
        raise ConfigError(
            f"WORLD_SIZE={count()}, but accelerate knows of {state.num_processes}; start the processes by `accelerate "
            "launch` with a config of configs/accelerate/, or unset WORLD_SIZE and RANK"
        )
    return state


def share(config: RunConfig, sequences: int) -> int:
    """How many of a micro-batch's sequences each process has.

    Raises:
        ConfigError: where they cannot be shared out, or a process would not have all completions of a prompt.
    """
    each, left = divmod(sequences, count())
    rollout = each * config.steps_per_generation
    if left or rollout % config.num_generations:
        raise ConfigError(
            f"{count()} processes cannot share micro-batches of {sequences} sequences, {config.num_generations} of a "
            f"prompt, {config.steps_per_generation} micro-batches a rollout: choose another number of processes, or "
            f"prompts_per_rollout={config.prompts_per_rollout} and steps_per_generation that it divides"
        )
    return each


def sharded() -> bool:
    """Whether the processes share the policy's parameters too, by FSDP or ZeRO, as `accelerate launch` was told."""
    return any(os.environ.get(f"ACCELERATE_USE_{engine}", "").lower() == "true" for engine in ("FSDP", "DEEPSPEED"))


def check(config: RunConfig) -> None:
    """Refuse what several processes cannot do, before a model is loaded.

    Raises:
        ConfigError: naming the field, or the config of accelerate's, to change.
    """
    if config.probe_every:
        raise ConfigError(f"probe_every={config.probe_every} measures on one process; set it to 0, or train on one")
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true":
        raise ConfigError(
            "a run evaluates its policy by itself, and DeepSpeed's shards are not put together for that: launch with "
            "configs/accelerate/fsdp2.yaml or ddp.yaml; a script of your own may use zero3.yaml"
        )
    if sharded() and config.sampler == "own":
        raise ConfigError("sampler='own' cannot sample from a sharded policy; set sampler to 'trl' or 'vllm'")
    if sharded() and config.policy.lora is not None:
        raise ConfigError("a policy with adapters is not sharded here: launch with configs/accelerate/ddp.yaml")


def whole(model: "Module") -> "Module":
    """The policy with all of its parameters on each process: itself, or a copy put together of FSDP2's shards."""
    from torch.distributed.tensor import DTensor

    parts = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    if not any(isinstance(part, DTensor) for part in parts.values()):
        return model
    parts = {name: part.full_tensor() if isinstance(part, DTensor) else part for name, part in parts.items()}
    copy = type(model)(model.config)
    copy.to(device=model.device, dtype=model.dtype).train(model.training)
    with suppress(AttributeError):
        copy.generation_config = model.generation_config
    copy.load_state_dict({name: part.detach() for name, part in parts.items()}, strict=False)
    return copy
