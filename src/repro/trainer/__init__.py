"""Clip-Cov and KL-Cov for TRL's GRPO: the trainer, its config and what it measures."""

from repro.trainer.config import PRESETS, CovGRPOConfig
from repro.trainer.trainer import CovGRPOTrainer

__all__ = ["PRESETS", "CovGRPOConfig", "CovGRPOTrainer"]
