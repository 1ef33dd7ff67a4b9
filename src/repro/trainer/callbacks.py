"""Entropy and covariance metrics for TRL's own trainers."""

import math
from typing import Any

import torch
from transformers import TrainerCallback
from trl import GRPOTrainer, RLOOTrainer

from repro.errors import ConfigError
from repro.trainer.aggregate import loss_mask
from repro.trainer.monitor import StepMonitor

DRAIN_EVERY = 256
"""Optimizer steps whose metrics may stay on the device: with a log per epoch there would be no other bound."""


class CovarianceCallback(TrainerCallback):
    """Logs the metrics of :mod:`repro.trainer.monitor` with TRL's ``GRPOTrainer`` or ``RLOOTrainer`` and only watches.

    .. code-block:: python

        trainer = GRPOTrainer(...)
        CovarianceCallback.attach(trainer)
        trainer.train()

    A log has the mean over the optimizer steps since the last one, as TRL's own metrics do, whatever the
    ``logging_strategy``. Under RLOO there is no ``pi_old`` per token, hence no ``ratio/*``. Selections are those of
    ``CovGRPOTrainer`` alone.

    Raises:
        ConfigError: when it is made in another way than by :meth:`attach`: transformers shows a callback no losses.
    """

    def __init__(self, trainer: GRPOTrainer | RLOOTrainer | None = None, *, attached: bool = False) -> None:
        if not attached:
            raise ConfigError(
                "CovarianceCallback made by itself would log nothing, since it has to watch the trainer's losses: make "
                "the trainer without it, then call CovarianceCallback.attach(trainer)"
            )
        self.trainer = trainer
        self.monitor = StepMonitor(trainer.accelerator)
        self._forward: tuple[torch.Tensor, torch.Tensor] | None = None
        self._totals: dict[str, tuple[float, int]] = {}

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
        callback = cls(trainer, attached=True)
        forward, compute_loss, log = trainer._get_per_token_logps_and_entropies, trainer._compute_loss, trainer.log

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

        def watched_log(*args: Any, **kwargs: Any) -> None:
            if trainer.model.training:
                callback._report()
            log(*args, **kwargs)

        trainer._get_per_token_logps_and_entropies, trainer._compute_loss = watched_forward, watched_loss
        trainer.log = watched_log
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

    def _drain(self) -> None:
        for metrics in self.monitor.collect():
            for name, value in metrics.items():
                if not math.isnan(value):
                    total, count = self._totals.get(name, (0.0, 0))
                    self._totals[name] = total + value, count + 1

    def _report(self) -> None:
        self._drain()
        for name, (total, count) in self._totals.items():
            self.trainer._metrics["train"][name].append(total / count)
        self._totals.clear()

    def on_step_end(self, args, state, control, **kwargs):
        if self.monitor.pending >= DRAIN_EVERY:
            self._drain()
