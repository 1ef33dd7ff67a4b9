"""Forward passes in buckets of length, for responses of very unequal length."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from trl import GRPOTrainer

from repro.policies.buckets import buckets


class BucketedForward(GRPOTrainer):
    """TRL's trainer, its log-probabilities and entropies computed in buckets of length where rows are long.

    The same numbers but for rounding, and 0 in place of what TRL has at padding, which no loss reads. A policy with
    images or a router is left to TRL.
    """

    def _get_per_token_logps_and_entropies(
        self,
        model: torch.nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *args: Any,
        **kwargs: Any,
    ):
        parts = buckets(attention_mask)
        given = {name for name, value in kwargs.items() if value is not None and value is not False}
        if len(parts) == 1 or args or given - {"batch_size", "compute_entropy"}:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, *args, **kwargs
            )
        length = input_ids.size(1)
        computed: list[tuple[Tensor, ...]] = []
        for rows, columns in parts:
            # At least one token is kept of a bucket whose completions are empty.
            keep = max(1, logits_to_keep - (length - columns.stop))
            log_probs, entropies, _ = super()._get_per_token_logps_and_entropies(
                model, input_ids[rows, columns], attention_mask[rows, columns], keep, **kwargs
            )
            outputs = (log_probs,) if entropies is None else (log_probs, entropies)
            missing = logits_to_keep - keep
            # Padding counts axes from the last one, and entropies may have one behind the tokens'.
            computed.append(tuple(pad(output, (0, 0) * (output.ndim - 2) + (0, missing)) for output in outputs))
        back = torch.cat([rows for rows, _ in parts]).argsort()
        whole = [torch.cat(output)[back] for output in zip(*computed, strict=True)]
        return whole[0], (whole[1] if len(whole) > 1 else None), None
