"""What an optimizer step did to entropy and covariance, summed over micro-batches and ranks on the device.

Every quantity is a ratio of sums over tokens or responses, so micro-batches and ranks only have to add up; nothing is
copied to the host before a log asks for it.
"""

from typing import Any

import torch
from accelerate import Accelerator


def _moments(
    log_probs: torch.Tensor, entropies: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """The sums that a step's metrics follow from, in float64: [7]."""
    mask = mask.bool()
    log_probs, entropies, advantages = (
        values.double().masked_fill(~mask, 0) for values in (log_probs, entropies, advantages.expand_as(log_probs))
    )
    length = mask.sum(-1)  # [B]
    return torch.stack(
        [
            length.sum().double(),
            (length > 0).sum().double(),
            entropies.sum(),
            (entropies.sum(-1) / length.clamp(min=1)).sum(),
            log_probs.sum(),
            advantages.sum(),
            (log_probs * advantages).sum(),
        ]
    )


def _metrics(total: torch.Tensor) -> dict[str, torch.Tensor]:
    """Metrics of a step from its summed moments."""
    tokens, responses = total[0].clamp(min=1), total[1].clamp(min=1)
    return {
        "entropy/token_mean": total[2] / tokens,
        "entropy/response_mean": total[3] / responses,
        "covariance/mean": total[6] / tokens - (total[4] / tokens) * (total[5] / tokens),
    }


class StepMonitor:
    """Accumulates the metrics of optimizer steps and keeps a sample of their tokens.

    Args:
        accelerator: reduces the sums over ranks and tells when an optimizer step is complete.
        sample_every: keep tokens of every n-th optimizer step, the first included; 0 keeps none.
        sample_size: sequences kept of such a step, from its last micro-batch.
    """

    def __init__(self, accelerator: Accelerator, *, sample_every: int = 0, sample_size: int = 0) -> None:
        self.accelerator, self.sample_every, self.sample_size = accelerator, sample_every, sample_size
        self._sums: torch.Tensor | None = None
        self._finished: list[dict[str, torch.Tensor]] = []
        self.samples: list[dict[str, Any]] = []

    @torch.no_grad()
    def observe(
        self,
        step: int,
        log_probs: torch.Tensor,
        entropies: torch.Tensor,
        advantages: torch.Tensor,
        mask: torch.Tensor,
        token_ids: torch.Tensor,
    ) -> None:
        """Add a micro-batch, all [B, T] (advantages [B] or [B, T]), to optimizer step number ``step``, from 1."""
        if advantages.dim() == 1:
            advantages = advantages.unsqueeze(1)
        sums = _moments(log_probs, entropies, advantages, mask)
        self._sums = sums if self._sums is None else self._sums + sums
        if not self.accelerator.sync_gradients:
            return
        total = self.accelerator.reduce(self._sums, reduction="sum")
        self._finished.append(_metrics(total))
        if self.sample_every and (step - 1) % self.sample_every == 0:
            tokens = total[0].clamp(min=1)
            head = slice(self.sample_size)
            deviation = (log_probs.double() - total[4] / tokens) * (advantages - total[5] / tokens)
            sample = {
                "token_id": token_ids,
                "log_prob": log_probs,
                "entropy": entropies,
                "advantage": advantages.expand_as(log_probs),
                "covariance": deviation,
            }
            self.samples.append(
                {"step": step, "mask": mask[head].bool(), **{name: values[head] for name, values in sample.items()}}
            )
        self._sums = None

    def collect(self) -> list[dict[str, float]]:
        """The metrics of the steps finished since the last call: the one copy to the host."""
        finished = [{name: value.item() for name, value in metrics.items()} for metrics in self._finished]
        self._finished.clear()
        return finished
