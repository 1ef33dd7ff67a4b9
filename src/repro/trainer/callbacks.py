"""Entropy and covariance metrics for TRL's own trainers."""

from typing import Any

import torch
from transformers import TrainerCallback
from trl import GRPOTrainer, RLOOTrainer

from repro.errors import ConfigError
from repro.trainer.aggregate import loss_mask
from repro.trainer.config import clips_tokens
from repro.trainer.monitor import StepMonitor


class CovarianceCallback(TrainerCallback):
    """Logs the metrics of :mod:`repro.trainer.monitor` with TRL's ``GRPOTrainer`` or ``RLOOTrainer`` and only watches.

        trainer = GRPOTrainer(...)
        CovarianceCallback.attach(trainer)
        trainer.train()

    Under RLOO there is no ``pi_old`` per token, hence no ``ratio/*``. Selections are those of ``CovGRPOTrainer`` alone.
    """

    def __init__(self, trainer: GRPOTrainer | RLOOTrainer) -> None:
        self.trainer = trainer
        low_high = None
        if isinstance(trainer, GRPOTrainer) and clips_tokens(trainer.args):
            low_high = (trainer.epsilon_low, trainer.epsilon_high)
        self.monitor = StepMonitor(trainer.accelerator, temperature=trainer.args.temperature, clip_range=low_high)
        self._forward: tuple[torch.Tensor, torch.Tensor] | None = None

    @classmethod
    def attach(cls, trainer: GRPOTrainer | RLOOTrainer) -> "CovarianceCallback":
        """Watch the losses of a trainer that has not begun to train.

        Raises:
            ConfigError: for a trainer of another kind, or one that is watched already.
        """
        if not isinstance(trainer, GRPOTrainer | RLOOTrainer):
            raise ConfigError(
                f"{type(trainer).__name__} has no log-probabilities and advantages per token to take a covariance of: "
                "attach to a GRPOTrainer or RLOOTrainer"
            )
        if hasattr(trainer, "monitor") or any(isinstance(c, cls) for c in trainer.callback_handler.callbacks):
            raise ConfigError(f"this {type(trainer).__name__} logs covariance metrics already: attach only once")
        callback = cls(trainer)
        forward, compute_loss = trainer._get_per_token_logps_and_entropies, trainer._compute_loss

        def watched_forward(*args: Any, **kwargs: Any):
            outputs = forward(*args, **kwargs)
            if kwargs.get("compute_entropy"):
                callback._forward = outputs[:2]
            return outputs

        def watched_loss(model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
            loss = compute_loss(model, inputs)
            if trainer.model.training:
                callback._observe(inputs)
            callback._forward = None
            return loss

        trainer._get_per_token_logps_and_entropies, trainer._compute_loss = watched_forward, watched_loss
        trainer.add_callback(callback)
        return callback

    def _observe(self, inputs: dict[str, Any]) -> None:
        self.monitor.observe(
            self.trainer.state.global_step + 1,
            *self._forward,
            inputs["advantages"],
            loss_mask(inputs),
            inputs["completion_ids"],
            old_log_probs=inputs.get("old_per_token_logps"),
        )

    def on_step_end(self, args, state, control, **kwargs):
        if control.should_log:
            for metrics in self.monitor.collect():
                for name, value in metrics.items():
                    self.trainer._metrics["train"][name].append(value)
