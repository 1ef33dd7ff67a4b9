"""KL-Cov (Eqs. 13-14): a penalty |log pi - log pi_old| on the tokens of the largest covariance."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor

from repro.errors import ConfigError
from repro.losses import kl_cov_penalty
from repro.ops.common import accumulator_dtype
from repro.trainer.methods.base import CUI_2025, EntropyControl
from repro.trainer.methods.pool import SELECTORS, Pool
from repro.trainer.settings import flag, number, setting

if TYPE_CHECKING:
    from repro.trainer.config import CovGRPOConfig


@dataclass
class KLCovSettings:
    """The penalty's weight and what moves it.

    At a gain of 0.5 an entropy 20 % under the target doubles the weight in 7 steps, about a rollout: a tenth of that
    lets the entropy fall far before the weight has grown. The lower bound is the paper's weight, so that a start far
    above the target does not take the weight away before it is needed: the penalty holds entropy far better than it
    restores it.
    """

    kl_cov_coef: Annotated[float, number(0)] = setting(1.0, "Weight of KL-Cov's penalty.")
    kl_cov_adaptive: Annotated[bool, flag()] = setting(
        False, "Move that weight, from kl_cov_coef on, so that the entropy holds entropy_target."
    )
    kl_cov_gain: Annotated[float, number(0, above=True)] = setting(0.5, "Gain of that control, per optimizer step.")
    kl_cov_coef_min: Annotated[float, number(0, above=True)] = setting(
        1.0, "The control keeps the weight at or above this."
    )
    kl_cov_coef_max: Annotated[float, number(0, above=True)] = setting(
        100.0, "The control keeps the weight at or under this."
    )


class KLCov(EntropyControl, name="kl_cov"):
    """Adds the penalty to the loss, and can move its weight to hold an entropy.

    That is integral control of the weight's logarithm, as SAC's of its temperature (arXiv:1812.05905): after every
    optimizer step the weight is multiplied by exp(gain (target - H) / target), H being the mean entropy of the step's
    tokens on all ranks in nats. It comes to rest only where H is at the target, so that methods can be compared at
    equal entropy instead of at equal weights.
    """

    title = "KL-Cov"
    settings = KLCovSettings
    default_fraction = 2e-3  # section 4.3, at 7B
    clip_range = (math.inf, math.inf)  # Listing 1
    takes_tokens = True
    acts_on_policy = False
    logs = MappingProxyType(
        {"kl_cov/coefficient": "the weight of KL-Cov's penalty in that step, where a controller moves it"}
    )
    paper = CUI_2025

    def __init__(self, config: CovGRPOConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.coef: float | Tensor = config.kl_cov_coef
        if config.kl_cov_adaptive:
            self.coef = torch.tensor(config.kl_cov_coef, dtype=accumulator_dtype(device), device=device)

    @classmethod
    def validate(cls, config: CovGRPOConfig) -> None:
        if not config.kl_cov_adaptive:
            controls = ("kl_cov_gain", "kl_cov_coef_min", "kl_cov_coef_max")
            controls += () if config.use_adaptive_entropy else ("entropy_target",)
            for field in fields(config):
                value = getattr(config, field.name)
                if field.name in controls and value != field.default:
                    warnings.warn(f"{field.name}={value!r} has no effect: set kl_cov_adaptive=True", stacklevel=5)
            return
        if config.use_adaptive_entropy:
            raise ConfigError(
                "kl_cov_adaptive=True and use_adaptive_entropy=True both steer the entropy to entropy_target: two "
                "controllers of one quantity work against each other, so unset one of them"
            )
        number(0, above=True).check("entropy_target", config.entropy_target)
        low, start, high = config.kl_cov_coef_min, config.kl_cov_coef, config.kl_cov_coef_max
        if not low <= start <= high:
            raise ConfigError(
                f"kl_cov_coef={start} is not between kl_cov_coef_min={low} and kl_cov_coef_max={high}: the weight "
                "starts at kl_cov_coef and stays between the two"
            )

    def select(self, pool: Pool) -> Tensor:
        tokens = self.config.entropy_control_tokens
        return SELECTORS["covariance" if tokens == "method" else tokens](pool)

    def penalty(self, log_probs: Tensor, old_log_probs: Tensor, selected: Tensor) -> Tensor:
        return kl_cov_penalty(log_probs, old_log_probs, selected, self.coef)

    def metrics(self) -> dict[str, Tensor]:
        return {"kl_cov/coefficient": self.coef} if self.config.kl_cov_adaptive else {}

    def after_step(self, metrics: Mapping[str, Tensor]) -> None:
        """Move the weight for the next optimizer step by this one's entropy, unless it had no tokens (NaN)."""
        if not self.config.kl_cov_adaptive:
            return
        entropy, target = metrics["entropy/token_mean"], self.config.entropy_target
        # A new tensor: the backward pass of this step still reads the old one.
        moved = self.coef * torch.exp(self.config.kl_cov_gain * (target - entropy) / target)
        moved = moved.clamp(self.config.kl_cov_coef_min, self.config.kl_cov_coef_max)
        self.coef = torch.where(entropy.isnan(), self.coef, moved)

    def state_dict(self) -> dict[str, Any]:
        return {"coef": self.coef}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.config.kl_cov_adaptive:
            self.coef = torch.as_tensor(state["coef"]).to(self.coef)
