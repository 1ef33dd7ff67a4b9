"""From per-token values to a loss, as TRL 1.16 does it for each ``loss_type``."""

from typing import Any

from torch import Tensor

from repro.errors import ConfigError


def loss_mask(batch: dict[str, Any]) -> Tensor:
    """The tokens that a loss is taken over, 0/1 ``[B, T]``: completions without what tools returned."""
    mask = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask


def aggregate(
    values: Tensor,
    mask: Tensor,
    loss_type: str,
    *,
    tokens_per_rollout: Tensor,
    accumulation: int,
    steps_per_generation: int,
    processes: int,
    max_completion_length: int,
) -> Tensor:
    """Per-token values to one micro-batch's share of the loss, normalised as TRL 1.16 does for that ``loss_type``.

    Args:
        values: ``[B, T]``.
        mask: ``[B, T]``, 0/1.
        loss_type: ``"dapo"``, ``"grpo"``, ``"bnpo"`` or ``"dr_grpo"``.
        tokens_per_rollout: 0-d: unmasked tokens of the rollout on all ranks.
        accumulation: micro-batches in this optimizer step.
        steps_per_generation: micro-batches of one rank in a rollout.
        processes: number of ranks, over which gradients are averaged.
        max_completion_length: in tokens.
    """
    values = values * mask
    if loss_type == "dapo":
        tokens_per_step = tokens_per_rollout.clamp(min=1.0) / processes * accumulation / steps_per_generation
        return values.sum() / tokens_per_step
    if loss_type == "grpo":
        return (values.sum(-1) / mask.sum(-1).clamp(min=1.0)).mean() / accumulation
    if loss_type == "bnpo":
        return values.sum() / mask.sum().clamp(min=1.0) / accumulation
    if loss_type == "dr_grpo":
        return values.sum() / (len(values) * max_completion_length) / accumulation
    raise ConfigError(f"loss_type={loss_type!r}: the normalisation is known for dapo, grpo, bnpo and dr_grpo")
