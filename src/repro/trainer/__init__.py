"""Clip-Cov and KL-Cov for TRL's GRPO: the trainer, its config and what it measures."""

from repro.trainer.config import CovGRPOConfig
from repro.trainer.presets import PRESETS
from repro.trainer.trainer import CovGRPOTrainer

__all__ = ["PRESETS", "CovGRPOConfig", "CovGRPOTrainer"]
