"""``CovGRPOTrainer``: TRL's GRPO, with the entropy and covariance of every optimizer step.

Against ``trl.GRPOTrainer`` the only change is what is measured. From the per-token log-probabilities and entropies of
the loss's own forward pass come, for each optimizer step and over all its micro-batches and ranks:

``entropy/response_mean``
    H of the paper's Eq. 5: the mean over responses of the mean over a response's tokens of the exact entropy, in nats.
``entropy/token_mean``
    The mean over tokens of the same entropies: TRL's ``entropy``, weighted by tokens where TRL averages micro-batches.
``covariance/mean``
    The mean over tokens of (log pi - mean log pi)(A - mean A), the paper's Eq. 10.
"""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from trl import GRPOConfig, GRPOTrainer

from repro.monitor import StepMonitor


@dataclass
class CovGRPOConfig(GRPOConfig):
    """Configuration of :class:`CovGRPOTrainer`: all of TRL's ``GRPOConfig``, and what to keep of the tokens."""

    token_sample_every: int = field(
        default=0, metadata={"help": "Keep a sample of tokens every so many optimizer steps; 0 keeps none."}
    )
    token_sample_size: int = field(default=32, metadata={"help": "Sequences in each sample of tokens."})


class CovGRPOTrainer(GRPOTrainer):
    """TRL's ``GRPOTrainer`` that logs both entropy estimators and the token covariance at every optimizer step."""

    _tag_names = ["trl", "cov-grpo"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._forward: tuple[torch.Tensor, torch.Tensor] | None = None
        self.monitor = StepMonitor(
            self.accelerator, sample_every=self.args.token_sample_every, sample_size=self.args.token_sample_size
        )

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any):
        log_probs, entropies, aux_loss = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if kwargs.get("compute_entropy"):
            self._forward = (log_probs.detach(), entropies.detach())
        return log_probs, entropies, aux_loss

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        loss = super()._compute_loss(model, inputs)
        if self.model.training:
            mask = inputs["completion_mask"]
            if "tool_mask" in inputs:
                mask = mask * inputs["tool_mask"]
            log_probs, entropies = self._forward
            self.monitor.observe(
                self.state.global_step + 1, log_probs, entropies, inputs["advantages"], mask, inputs["completion_ids"]
            )
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.model.training:
            for metrics in self.monitor.collect():
                for name, value in metrics.items():
                    self._metrics["train"][name].append(value)
        super().log(logs, start_time)

    def sampled_tokens(self) -> pd.DataFrame:
        """The kept tokens, a row each: step, sequence, position, token, log_prob, entropy, advantage, covariance."""
        frames = []
        for sample in self.monitor.samples:
            sequence, position = sample["mask"].nonzero(as_tuple=True)
            columns = {
                name: sample[name][sequence, position].float().cpu().numpy()
                for name in ("log_prob", "entropy", "advantage", "covariance")
            }
            ids = sample["token_id"][sequence, position].tolist()
            frames.append(
                pd.DataFrame(
                    {
                        "step": sample["step"],
                        "sequence": sequence.cpu().numpy(),
                        "position": position.cpu().numpy(),
                        "token": self.processing_class.convert_ids_to_tokens(ids),
                        **columns,
                    }
                )
            )
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
