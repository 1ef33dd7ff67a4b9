"""What an optimizer step did to entropy and covariance, over all its micro-batches and ranks, on the device.

Micro-batches add up to sums and to the step's tokens; when the step is complete they become one vector of metrics.
Nothing is copied to the host before a log asks for it. The population is the tokens of an optimizer step; a mean over
no tokens is NaN. What is the same as a metric of TRL's is left to TRL (``entropy`` is near to ``entropy/token_mean``:
it is a mean over micro-batches of their means).
"""

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed import ProcessGroup
from transformers import PreTrainedTokenizerBase

from repro.ops import token_covariance
from repro.ops.common import accumulator_dtype, broadcast_advantages

TOP_FRACTIONS = (0.0002, 0.002, 0.02, 0.2, 0.5)
PROBABILITY_EDGES = (0.1, 0.5, 0.9)
PROBABILITY_BUCKETS = ("below_0.1", "0.1_to_0.5", "0.5_to_0.9", "above_0.9")

METRICS = {
    ("entropy/response_mean",): "mean over responses of each one's mean exact entropy, Eq. 5, at the sampling "
    "temperature",
    ("entropy/token_mean",): "mean over tokens of the exact entropy, at the sampling temperature",
    ("covariance/mean",): "mean covariance, Eq. 10, on current log-probabilities",
    tuple(f"covariance/top_{fraction:g}" for fraction in TOP_FRACTIONS): "mean of the largest fraction, as in the "
    "paper's Table 1; at least one token",
    ("ratio/mean", "ratio/min", "ratio/max"): r"of $\pi/\pi_\text{old}$; only where there is a $\pi_\text{old}$",
    ("ratio/kl",): r"mean of $r - 1 - \log r$, an estimate of KL from the old policy to the current one",
    ("selected/count", "selected/fraction"): "selected tokens of the step and their share",
    ("selected/pool",): "tokens that one selection chose from",
    ("selected/positive_advantage",): "share of the selected with a positive advantage",
    tuple(f"selected/probability_{bucket}" for bucket in PROBABILITY_BUCKETS): "shares of the selected by probability "
    "when selected",
    ("selected/covariance",): "mean covariance of the selected when selected",
    (
        "selected/gradient_share",
    ): "share of the summed norm of the tokens' policy gradients that the selected carry, at "
    "current log-probabilities; only where `entropy_control_budget` is `gradient`",
    ("penalty/mean",): "what a method adds to the loss of a token, a mean over all tokens",
}
"""Metrics and their meaning; entropies and penalties are in nats, covariances in nats times units of advantage."""


def all_ranks(accelerator: Accelerator) -> ProcessGroup | None:
    """The group of all ranks; None where there is one process."""
    return torch.distributed.group.WORLD if accelerator.num_processes > 1 else None


@dataclass
class Selection:
    """A method's tokens in a micro-batch.

    Args:
        selected: bool ``[B, T]``.
        covariance: ``[B, T]``, by which they were selected.
        log_probs: ``[B, T]``, on which they were selected.
        pool: 0-d: tokens that the selection chose from, on all ranks where it was over all ranks.
        penalty: ``[B, T]``: what the method adds to each token's loss.
        gradient: ``[B, T]``: norm of each token's policy gradient, where the budget is one of gradient.
        metrics: what else the method logs of the step, 0-d and the same on all ranks.
    """

    selected: Tensor
    covariance: Tensor
    log_probs: Tensor
    pool: Tensor
    penalty: Tensor | None = None
    gradient: Tensor | None = None
    metrics: dict[str, Tensor] = field(default_factory=dict)


class StepMonitor:
    """Accumulates the metrics of optimizer steps and keeps a sample of their tokens.

    Args:
        accelerator: collects over ranks and tells when an optimizer step is complete.
        sample_every: keep tokens of every n-th optimizer step, the first included; 0 keeps none.
        sample_size: sequences kept of such a step, from its last micro-batch.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        *,
        sample_every: int = 0,
        sample_size: int = 0,
    ) -> None:
        self.accelerator, self.sample_every, self.sample_size = accelerator, sample_every, sample_size
        self._sums: dict[str, Tensor] = {}
        self._extremes: dict[str, Tensor] = {}
        self._tokens: list[tuple[Tensor, Tensor, Tensor]] = []
        self._finished: list[tuple[list[str], Tensor]] = []
        self.samples: list[dict[str, Any]] = []

    @torch.no_grad()
    def observe(
        self,
        step: int,
        log_probs: Tensor,
        entropies: Tensor,
        advantages: Tensor,
        mask: Tensor,
        token_ids: Tensor,
        *,
        old_log_probs: Tensor | None = None,
        selection: Selection | None = None,
    ) -> dict[str, Tensor] | None:
        """Add a micro-batch, all ``[B, T]`` (advantages also ``[B]``), to optimizer step number ``step``, from 1.

        ``old_log_probs`` are those of the policy that sampled; None where it is the current one. Returns the metrics of
        the step where this micro-batch completes it, 0-d on the device.
        """
        log_probs, entropies, keep = log_probs.detach(), entropies.detach(), mask != 0
        advantages = broadcast_advantages(log_probs, advantages)
        self._tokens.append((log_probs.flatten(), advantages.flatten(), keep.flatten()))
        self._add_entropy(entropies, keep)
        if old_log_probs is not None:
            self._add_ratio(log_probs - old_log_probs, keep)
        if selection is not None:
            self._add_selection(selection, advantages, keep)
        if not self.accelerator.sync_gradients:
            return None
        flat = [torch.cat(parts) for parts in zip(*self._tokens, strict=True)]
        covariance = token_covariance(*flat, group=all_ranks(self.accelerator))
        metrics = self._metrics(covariance, flat[2])
        if selection is not None:
            metrics |= selection.metrics
        self._finished.append((list(metrics), torch.stack(list(metrics.values()))))
        if self.sample_every and (step - 1) % self.sample_every == 0:
            head = slice(self.sample_size)
            selected = torch.zeros_like(keep) if selection is None else selection.selected & keep
            sample = {
                "token_id": token_ids,
                "log_prob": log_probs,
                "entropy": entropies,
                "advantage": advantages,
                "covariance": covariance[-keep.numel() :].view(keep.shape),
                "selected": selected,
                "mask": keep,
            }
            self.samples.append({"step": step, **{name: values[head].clone() for name, values in sample.items()}})
        self._sums, self._extremes, self._tokens = {}, {}, []
        return metrics

    def _add(self, name: str, values: Tensor, keep: Tensor | None = None) -> None:
        if keep is not None:
            values = torch.where(keep, values, 0.0)
        total = values.sum(dtype=accumulator_dtype(values.device))
        self._sums[name] = self._sums[name] + total if name in self._sums else total

    def _add_entropy(self, entropies: Tensor, keep: Tensor) -> None:
        lengths = keep.sum(-1)
        self._add("tokens", lengths)
        self._add("responses", lengths > 0)
        self._add("entropy", entropies, keep)
        wide = accumulator_dtype(entropies.device)
        self._add("response entropy", torch.where(keep, entropies, 0.0).sum(-1, dtype=wide) / lengths.clamp(min=1))

    def _add_ratio(self, log_ratio: Tensor, keep: Tensor) -> None:
        ratio = log_ratio.exp()
        self._add("ratio", ratio, keep)
        self._add("kl", ratio - 1 - log_ratio, keep)
        wide = accumulator_dtype(ratio.device)
        extremes = {
            "minus ratio min": -torch.where(keep, ratio, math.inf).amin().to(wide),
            "ratio max": torch.where(keep, ratio, -math.inf).amax().to(wide),
        }
        for name, value in extremes.items():
            self._extremes[name] = torch.maximum(self._extremes[name], value) if name in self._extremes else value

    def _add_selection(self, selection: Selection, advantages: Tensor, keep: Tensor) -> None:
        selected = selection.selected & keep
        self._add("selected", selected)
        self._add("positive", selected & (advantages > 0))
        self._add("selected covariance", selection.covariance, selected)
        self._add("pool", selection.pool)
        self._add("selections", torch.ones_like(selection.pool))
        probability = selection.log_probs.exp()
        bounds = (-math.inf, *PROBABILITY_EDGES, math.inf)
        for name, low, high in zip(PROBABILITY_BUCKETS, bounds, bounds[1:], strict=False):
            self._add(name, selected & (probability >= low) & (probability < high))
        if selection.penalty is not None:
            self._add("penalty", selection.penalty.detach(), keep)
        if selection.gradient is not None:
            self._add("gradient", selection.gradient, keep)
            self._add("selected gradient", selection.gradient, selected)

    def _metrics(self, covariance: Tensor, keep: Tensor) -> dict[str, Tensor]:
        """The metrics of a complete step from its sums and its tokens' covariances, 0-d and the same on all ranks."""
        self._add("covariance", covariance, keep)
        values = torch.stack(list((self._sums | self._extremes).values()))
        values = self.accelerator.gather(values).view(-1, len(values))
        split = len(self._sums)
        total = dict(zip(self._sums, values[:, :split].sum(0), strict=True))
        total |= dict(zip(self._extremes, values[:, split:].amax(0), strict=True))
        tokens = total["tokens"].clamp(min=1)
        metrics = {"entropy/token_mean": total["entropy"] / tokens}
        metrics["entropy/response_mean"] = total["response entropy"] / total["responses"].clamp(min=1)
        metrics["covariance/mean"] = total["covariance"] / tokens
        top = self._top_means(covariance, keep, total["tokens"])
        metrics |= {f"covariance/top_{fraction:g}": mean for fraction, mean in zip(TOP_FRACTIONS, top, strict=True)}
        if "ratio" in total:
            metrics["ratio/mean"] = total["ratio"] / tokens
            metrics["ratio/min"], metrics["ratio/max"] = -total["minus ratio min"], total["ratio max"]
            metrics["ratio/kl"] = total["kl"] / tokens
        if "selected" in total:
            metrics["selected/count"] = total["selected"]
            metrics["selected/fraction"] = total["selected"] / tokens
            metrics["selected/pool"] = total["pool"] / total["selections"]
            metrics["selected/positive_advantage"] = total["positive"] / total["selected"]
            metrics["selected/covariance"] = total["selected covariance"] / total["selected"]
            for name in PROBABILITY_BUCKETS:
                metrics[f"selected/probability_{name}"] = total[name] / total["selected"]
        if "gradient" in total:
            metrics["selected/gradient_share"] = total["selected gradient"] / total["gradient"]
        if "penalty" in total:
            metrics["penalty/mean"] = total["penalty"] / tokens
        for name in metrics.keys() - {"selected/count", "selected/pool"}:
            metrics[name] = metrics[name].masked_fill(total["tokens"] == 0, math.nan)
        return metrics

    def _top_means(self, covariance: Tensor, keep: Tensor, tokens: Tensor) -> list[Tensor]:
        """Means of the largest covariances of the step on all ranks, from one sort."""
        covariance = torch.where(keep, covariance, -math.inf)
        if self.accelerator.num_processes > 1:
            padded = self.accelerator.pad_across_processes(covariance, pad_index=-math.inf)
            covariance = self.accelerator.gather(padded)
        largest = covariance.sort(descending=True).values
        sums = torch.where(largest == -math.inf, 0.0, largest).cumsum(0, dtype=accumulator_dtype(largest.device))
        fractions = torch.tensor(TOP_FRACTIONS, dtype=sums.dtype, device=sums.device)
        # Half a millionth of a token keeps 0.2 * 5 from being 0.999..., which floor would make 0.
        counts = (fractions * tokens + 5e-7).floor().clamp(min=1)
        return list((sums[counts.long() - 1] / counts).unbind())

    @property
    def pending(self) -> int:
        """Finished steps whose metrics :meth:`collect` would return."""
        return len(self._finished)

    def collect(self) -> list[dict[str, float]]:
        """The metrics of the steps finished since the last call: the one copy to the host."""
        if not self._finished:
            return []
        values = torch.cat([vector for _, vector in self._finished]).tolist()
        finished = []
        for names, vector in self._finished:
            finished.append(dict(zip(names, values[: len(vector)], strict=True)))
            values = values[len(vector) :]
        self._finished.clear()
        return finished

    def sampled_tokens(self, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
        """The kept tokens, a row each.

        Columns: step, sequence, position, token, log_prob, entropy, advantage, covariance, selected (bool).
        """
        frames = []
        for sample in self.samples:
            sequence, position = sample["mask"].nonzero(as_tuple=True)
            columns = {
                "step": sample["step"],
                "sequence": sequence.cpu().numpy(),
                "position": position.cpu().numpy(),
                "token": tokenizer.convert_ids_to_tokens(sample["token_id"][sequence, position].tolist()),
            }
            for name in ("log_prob", "entropy", "advantage", "covariance", "selected"):
                columns[name] = sample[name][sequence, position].cpu().numpy()
            frames.append(pd.DataFrame(columns))
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs between optimizer steps."""
        return {"finished": self._finished, "samples": self.samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._finished = [(list(names), values.to(self.accelerator.device)) for names, values in state["finished"]]
        self.samples = list(state["samples"])
