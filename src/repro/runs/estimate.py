"""What a run will need of memory and time, from its config and its model's shape; nothing is loaded.

Memory is the largest of three moments, each with the weights and Adam's two moments in it:

- *sampling*: keys and values of all completions sampled side by side, and their logits over the vocabulary;
- *backward*: what a micro-batch's forward pass keeps for the backward pass, the gradient of the output head, and a
  tile of the logits, which TRL's fused head never has whole, with copies of it. With activation checkpointing a layer
  keeps its input alone, and one layer is computed again at a time;
- *update*: all gradients, and Adam's temporaries.

What a layer keeps per token, in elements: six hidden vectors (two residuals, two normalised, two scaled), queries, the
keys and values, attention's output twice, and four of the MLP's width. Adapters keep their inputs in float32 too.

Time is floating-point operations over a rate: two a parameter and token forwards, twice that backwards for all weights
and once for adapters, with one more forward where activations are computed again; on a CPU also so many seconds a
logit, whose exponentials are no matrix product. What was measured of both, on CPUs, is in
``benchmarks/results/estimate.csv``. Rates of GPUs are assumed from data sheets, and no run has confirmed them.
"""

import os
import sys
from dataclasses import dataclass
from typing import NamedTuple

from repro import pins
from repro.errors import BaseError, ConfigError
from repro.policies.shapes import Shape, shape_of
from repro.runs.config import RunConfig

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
ADAPTER_BYTES = 4
# As TRL's fused head cuts the logits, and the copies of a tile that its backward pass has at once: in torch's own
# operations, by what was measured; Triton's kernel writes in place, which leaves the tile and its product.
TILE_TOKENS, TILE_WORDS, TILE_COPIES = 4096, 32768, {"cpu": 8, "cuda": 2}
# Processor time of a logit in scoring and update together, and where a token is sampled: fitted to what was measured.
LOGIT_SECONDS = {"update": 43e-9, "sampling": 27e-9}
EVALUATED_TOGETHER = 2048
PROMPT = {"gsm8k": 160, "math": 160, "dapo_math": 220}
"""Tokens of a prompt, in its template, of tasks whose prompts are text; other tasks' prompts are short."""
SHORT_PROMPT = 24


MOMENTS = {"sampling": "it samples", "backward": "it takes gradients", "update": "Adam steps"}


@dataclass(frozen=True)
class Memory:
    """Bytes by what they are for. ``activations``, ``logits`` and ``cache`` are not there at the same time."""

    weights: int
    optimizer: int
    gradients: int
    activations: int
    logits: int
    head_gradient: int
    cache: int
    sampled_logits: int
    temporaries: int

    @property
    def moments(self) -> dict[str, int]:
        """Bytes at each of the three moments."""
        kept = self.weights + self.optimizer
        return {
            "sampling": kept + self.cache + self.sampled_logits,
            "backward": kept + self.activations + self.logits + self.head_gradient,
            "update": kept + self.gradients + self.temporaries,
        }

    @property
    def peak(self) -> int:
        """Bytes at the worst moment."""
        return max(self.moments.values())

    @property
    def worst(self) -> str:
        """The worst moment."""
        return max(self.moments, key=self.moments.__getitem__)


class Work(NamedTuple):
    """Floating-point operations of a run, its logits, and the tokens that are decoded one after the other."""

    update: float
    sampling: float
    update_logits: float
    sampling_logits: float
    decoding_steps: int


class Batch(NamedTuple):
    """Sequences of a micro-batch, completions sampled side by side, and their lengths in tokens."""

    sequences: int
    sampled: int
    prompt: int
    completion: int

    @property
    def length(self) -> int:
        """Tokens of a sequence."""
        return self.prompt + self.completion


def batch_of(config: RunConfig) -> Batch:
    """The sizes that memory follows from, completions at their longest."""
    rollout = config.prompts_per_rollout * config.num_generations
    evaluated = min(EVALUATED_TOGETHER, config.eval_prompts * max(config.eval_samples, config.eval_samples_last))
    return Batch(
        rollout // config.steps_per_generation,
        max(rollout, evaluated),
        PROMPT.get(config.task, SHORT_PROMPT),
        config.max_completion_length,
    )


def element_bytes(config: RunConfig, device: str) -> int:
    """Bytes of a weight: of the dtype that is set or pinned; ``auto`` is half precision on a GPU.

    Published models that are not pinned yet are taken to be in half precision, as they are.
    """
    named = config.policy.dtype
    if named == "auto":
        return 4 if device == "cpu" else 2
    if named is None and ":" in config.base:
        pin = pins.read("model").get(config.base)
        named = (pin and pin.dtype) or "bfloat16"
    return BYTES[named or "float32"]


def memory(config: RunConfig, shape: Shape, device: str = "cuda", batch: Batch | None = None) -> Memory:
    """Bytes that a run needs on one device.

    Args:
        config: the run.
        shape: of its model.
        device: ``cpu`` or ``cuda``: where weights of ``auto`` are kept, and how Adam steps.
        batch: sizes in place of the config's, such as measured lengths.
    """
    batch = batch or batch_of(config)
    lora, size = config.policy.lora, element_bytes(config, device)
    weight = 0.55 if config.policy.load_in_4bit else size
    computed = 2 if config.trainer.get("bf16") or config.trainer.get("fp16") else size
    trained = shape.adapter_parameters(lora) if lora else shape.parameters
    trained_bytes = ADAPTER_BYTES if lora else size
    tokens = batch.sequences * batch.length
    kept = _kept(shape) * computed
    if lora and computed < ADAPTER_BYTES:
        kept += sum(width for width, _ in shape.linears.values()) * ADAPTER_BYTES
    checkpointed = bool(config.trainer.get("activation_checkpointing") or config.trainer.get("gradient_checkpointing"))
    layers = shape.layers * shape.hidden * computed + kept if checkpointed else shape.layers * kept
    final = 3 * shape.hidden * computed
    tile = min(tokens, TILE_TOKENS) * min(shape.vocabulary, TILE_WORDS) * 4 * TILE_COPIES[device]
    largest = max(shape.head_parameters, shape.hidden * shape.mlp)
    # vLLM takes a set part of the memory for its pages, however many completions there are.
    paged = config.sampler == "vllm"
    adam = trained if device != "cpu" else min(trained, 2 * largest)
    return Memory(
        weights=int(shape.parameters * weight + (trained * ADAPTER_BYTES if lora else 0)),
        optimizer=2 * trained * trained_bytes,
        gradients=trained * trained_bytes,
        activations=tokens * (layers + final),
        logits=tile,
        head_gradient=0 if lora else 4 * shape.head_parameters,
        cache=0 if paged else 2 * batch.sampled * batch.length * shape.layers * shape.keys * computed,
        sampled_logits=0 if paged else 3 * batch.sampled * shape.vocabulary * 4,
        temporaries=adam * trained_bytes,
    )


def _kept(shape: Shape) -> int:
    """Elements that a layer keeps of a token for the backward pass."""
    return 6 * shape.hidden + 3 * shape.queries + 2 * shape.keys + 4 * shape.mlp


def work(config: RunConfig, shape: Shape, batch: Batch | None = None) -> Work:
    """What a run computes, completions at their longest."""
    batch = batch or batch_of(config)
    rollout = config.prompts_per_rollout * config.num_generations
    rollouts = -(-config.max_steps // config.updates_per_rollout)
    layers = shape.layers * shape.layer_parameters
    attention = 2 * shape.layers * shape.queries * batch.length
    forward = 2 * (layers + attention + shape.head_parameters)
    checkpointed = bool(config.trainer.get("activation_checkpointing") or config.trainer.get("gradient_checkpointing"))
    backward = 1 if config.policy.lora else 2
    # The fused head computes its tiles again in the backward pass.
    once = 2 * (layers + attention) * (1 + backward + checkpointed) + 2 * shape.head_parameters * (2 + backward)
    # The sampling policy's log-probabilities are taken once, where several updates share a rollout.
    scored = forward if config.updates_per_rollout > 1 else 0
    update = rollouts * rollout * batch.length * (once + scored)
    evaluations = len({*range(0, config.max_steps, config.eval_steps), config.max_steps})
    samples = (evaluations - 1) * (config.eval_samples + 1) + config.eval_samples_last + 1
    evaluated = config.eval_prompts * samples
    sampling = forward * batch.completion * (rollouts * rollout + evaluated)
    steps, words = batch.completion * (rollouts + 2 * evaluations), shape.vocabulary
    tokens = rollouts * rollout * batch.length
    sampled = batch.completion * (rollouts * rollout + evaluated)
    return Work(float(update), float(sampling), float(tokens * words), float(sampled * words), steps)


class Device(NamedTuple):
    """A GPU by its data sheet: GiB of memory, dense half-precision TFLOP/s, GB/s of memory."""

    gib: float
    tflops: float
    bandwidth: float


DEVICES = {
    "T4": Device(15.0, 65, 320),
    "L4": Device(22.5, 121, 300),
    "A100": Device(40.0, 312, 1555),
    "H100": Device(80.0, 989, 3350),
}
# Assumed, not measured: a quarter of the peak in passes over whole sequences, and 2 ms a layer for a token of
# transformers' `generate`, which waits for launches and not for arithmetic.
PART_OF_PEAK, SECONDS_A_LAYER = 0.25, 0.002


def gpu_seconds(found: Work, shape: Shape, device: Device, weight_bytes: int = 2) -> float:
    """Seconds on one GPU, by the assumptions above."""
    decoded = max(SECONDS_A_LAYER * shape.layers, shape.parameters * weight_bytes / (device.bandwidth * 1e9))
    rate = PART_OF_PEAK * device.tflops * 1e12
    return found.update / rate + max(found.decoding_steps * decoded, found.sampling / rate)


def cpu_seconds(found: Work, update_rate: float, sampling_rate: float) -> float:
    """Seconds of processor time on one thread, by measured rates in FLOP/s."""
    logits = LOGIT_SECONDS["update"] * found.update_logits + LOGIT_SECONDS["sampling"] * found.sampling_logits
    return found.update / update_rate + found.sampling / sampling_rate + logits


def remedy(found: Memory, config: RunConfig) -> str:
    """The setting to lower, by what most of the worst moment is."""
    trainer = config.trainer
    if found.worst == "sampling" and found.cache + found.sampled_logits > found.weights + found.optimizer:
        return "lower prompts_per_rollout, eval_samples_last or max_completion_length"
    if found.worst == "backward" and found.activations > found.weights + found.optimizer:
        if not (trainer.get("activation_checkpointing") or trainer.get("gradient_checkpointing")):
            return "set trainer.activation_checkpointing to true, or raise steps_per_generation"
        return "raise steps_per_generation and gradient_accumulation_steps, or lower max_completion_length"
    if config.policy.lora is None:
        return "train adapters (policy.lora), or share the run among several GPUs"
    return "take a smaller base, or policy.load_in_4bit"


def excess(config: RunConfig, shape: Shape, device: str, available: int, where: str) -> str:
    """That a run needs more than the bytes there are, and the setting to lower; nothing where it fits."""
    found = memory(config, shape, device)
    if found.peak <= available:
        return ""
    return (
        f"arm {config.arm} on {config.base} needs an estimated {found.peak / 2**30:.1f} GiB while "
        f"{MOMENTS[found.worst]}, and {where} has {available / 2**30:.1f}: {remedy(found, config)}"
    )


def check_here(config: RunConfig) -> None:
    """Refuse a run that does not fit in this machine's GPU; on a CPU say that it does not fit.

    Only pinned policies are looked at: the study's own are small. Nothing is refused of a model that cannot be
    estimated, or of a run that several processes share, as it depends on how they share it.

    Raises:
        ConfigError: when the estimate is above the GPU's memory, with the setting to lower.
    """
    import torch

    if ":" not in config.base or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return
    try:
        shape = shape_of(config.base)
    except BaseError:
        return
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        if too_much := excess(config, shape, "cuda", total, torch.cuda.get_device_name()):
            raise ConfigError(too_much)
        return
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if too_much := excess(config, shape, "cpu", total, "this machine"):
        print(f"warning: {too_much}", file=sys.stderr)
