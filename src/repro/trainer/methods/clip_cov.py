"""Clip-Cov (Eqs. 11-12): tokens drawn from a band of covariance have no part in the policy gradient."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated

import numpy as np
from torch import Tensor

from repro.errors import ConfigError
from repro.losses import clip_cov_advantages, policy_gradient_terms
from repro.trainer.methods.base import CUI_2025, EntropyControl
from repro.trainer.methods.pool import SELECTORS, Pool
from repro.trainer.settings import number, setting

if TYPE_CHECKING:
    from repro.trainer.config import CovGRPOConfig


@dataclass
class ClipCovSettings:
    """The band. The paper: 1 and 5."""

    clip_cov_low: Annotated[float, number(infinite=True)] = setting(1.0, "Clip-Cov draws above this covariance.")
    clip_cov_high: Annotated[float, number(infinite=True)] = setting(5.0, "Clip-Cov draws below this covariance.")


class ClipCov(EntropyControl, name="clip_cov"):
    """Draws among the tokens that PPO's clip leaves alone, and sets the advantages of the drawn ones to 0."""

    title = "Clip-Cov"
    settings = ClipCovSettings
    default_fraction = 2e-4  # section 4.3
    clip_range = (1.0, 1.0)  # as the authors ran it
    takes_tokens = True
    paper = CUI_2025

    @classmethod
    def validate(cls, config: CovGRPOConfig) -> None:
        if not config.clip_cov_low < config.clip_cov_high:
            raise ConfigError(
                f"clip_cov_low={config.clip_cov_low} is not under clip_cov_high={config.clip_cov_high}: no token can "
                "be between them; the paper has 1 and 5"
            )
        if config.entropy_control_tokens != "method":
            for field in fields(ClipCovSettings):
                if getattr(config, field.name) != field.default:
                    warnings.warn(
                        f"{field.name}={getattr(config, field.name)!r} has no effect with entropy_control_tokens="
                        f"{config.entropy_control_tokens!r}: the band is of entropy_control_tokens='method'",
                        stacklevel=5,
                    )

    def select(self, pool: Pool) -> Tensor:
        low, high = self.config.clip_range
        _, clipped = policy_gradient_terms(
            pool.log_probs, pool.old_log_probs, pool.advantages, epsilon_low=low, epsilon_high=high
        )
        pool = pool.without(clipped)
        if self.config.entropy_control_tokens != "method":
            return SELECTORS[self.config.entropy_control_tokens](pool)
        return pool.drawn(self.config.clip_cov_low, self.config.clip_cov_high)

    def advantages(self, advantages: Tensor, selected: Tensor) -> Tensor:
        return clip_cov_advantages(advantages, selected)

    def why_nothing(self, covariances: np.ndarray) -> str | None:
        if self.config.entropy_control_tokens != "method":
            return None
        low, high = self.config.clip_cov_low, self.config.clip_cov_high
        least, median, most, largest = np.quantile(covariances, (0.0, 0.5, 0.99, 1.0))
        return (
            f"the band {low:g} < covariance < {high:g} holds no token that PPO's clip leaves alone, while covariances "
            f"are {least:.3g} (least), {median:.3g} (median), {most:.3g} (99 %) and {largest:.3g} (largest): move the "
            "band with clip_cov_low and clip_cov_high"
        )
