"""What a policy's distributions are, beyond the log-probabilities of the tokens: from TRL's own forward pass."""

import functools
import types
from typing import Any, NamedTuple

import torch
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head


class Moments(NamedTuple):
    """Of the distribution that each token was sampled from, ``[B, T]`` each.

    Args:
        entropies: in nats; may carry a gradient.
        log_sum_sq_probs: log sum_v pi(v)^2.
    """

    entropies: Tensor
    log_sum_sq_probs: Tensor


def add_moments(model: torch.nn.Module, *, temperature: float, cast_lm_head_to_fp32: bool) -> None:
    """Let the fused head of a policy compute both, and return them as entropies with one axis more, ``[B, L, 2]``.

    So they come through whatever splits a batch into passes and joins the results; :func:`take_moments` parts them.
    """
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    outputs = ("log_probs", "entropy", "log_sum_sq_probs")
    add_fused_lm_head(model, temperature=temperature, cast_lm_head_to_fp32=cast_lm_head_to_fp32, outputs=outputs)
    fused = model.forward.__func__

    @functools.wraps(fused)
    def forward(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        output = fused(self, *args, **kwargs)
        if kwargs.get("fused_lm_head"):
            output.entropy = torch.stack([output.entropy, output.log_sum_sq_probs], dim=-1)
        return output

    # A method, and not a closure over the model, so that a deep copy of the policy computes with its own weights.
    model.forward = types.MethodType(forward, model)


def take_moments(entropies: Tensor) -> Moments:
    """The two, of the entropies ``[B, T, 2]`` of a policy with :func:`add_moments`."""
    return Moments(*entropies.unbind(-1))
