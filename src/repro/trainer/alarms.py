"""Warnings that a method selects less than its settings say: given once each, from the metrics of a log."""

import warnings
from collections import deque
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from repro.trainer.config import CovGRPOConfig
from repro.trainer.methods import EntropyControl


class Alarms:
    """Watches the logged metrics of the steps. ``seen`` is the latest pool: covariances and mask, ``[B, T]`` each."""

    def __init__(self, config: CovGRPOConfig, control: EntropyControl) -> None:
        self.config, self.control = config, control
        self.seen: tuple[Tensor, Tensor] | None = None
        rollout = max(1, config.updates_from // config.gradient_accumulation_steps)
        # So many steps in a row have a whole pool among them, wherever they begin.
        steps = 2 * rollout - 1 if config.effective_scope == "rollout" else 1
        self._counts: deque[float] = deque(maxlen=steps)
        self._floor_said = self._nothing_said = False

    def hear(self, metrics: Mapping[str, float]) -> None:
        """Take in the metrics of one optimizer step."""
        if not metrics.get("selected/pool"):
            return
        self._hear_floor(metrics["selected/pool"], metrics["selected/count"])
        self._counts.append(metrics["selected/count"])
        if not self._nothing_said and len(self._counts) == self._counts.maxlen and not any(self._counts):
            self._hear_nothing(metrics["selected/pool"])

    def _hear_floor(self, pool: float, count: float) -> None:
        """A fraction of the pool is under one token, so that the minimum decides."""
        fraction, minimum = self.config.entropy_control_fraction, self.config.entropy_control_minimum
        if self._floor_said or fraction * pool >= 1 or self.config.entropy_control_budget == "gradient":
            return
        self._floor_said = True
        decides = (
            "nothing is selected"
            if minimum == 0
            else f"entropy_control_minimum={minimum} decides, a fraction of {minimum / pool:.2g}, and {count:.0f} of "
            "the step's tokens were selected"
        )
        warnings.warn(
            f"entropy_control_fraction={fraction:g} of the {pool:.0f} tokens of a selection is {fraction * pool:.2g} "
            f"tokens, so that {decides}: raise the fraction, or select over more tokens (entropy_control_scope="
            f"{self.config.entropy_control_scope!r}, generation_batch_size)",
            stacklevel=4,
        )

    def _hear_nothing(self, pool: float) -> None:
        """The latest pools gave no token, though the minimum or the fraction asks for some."""
        covariances = np.asarray(self.seen[0][self.seen[1] != 0].float().cpu())
        quota = max(self.config.entropy_control_minimum, self.config.entropy_control_fraction * pool)
        why = self.control.why_nothing(covariances) if quota >= 1 and len(covariances) else None
        if why is not None:
            self._nothing_said = True
            steps = len(self._counts)
            warnings.warn(f"{self.control.title} selected 0 tokens in {steps} steps: {why}", stacklevel=4)
