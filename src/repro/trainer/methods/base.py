"""What a method of entropy control is to the trainer: tokens that it selects, and what becomes of them in the loss."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from repro.trainer.config import CovGRPOConfig
    from repro.trainer.methods.pool import Pool

CUI_2025 = {
    "title": "The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models",
    "id": "2505.22617",
    "citation": """\
@article{cui2025entropy,
    title        = {{The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models}},
    author       = {Ganqu Cui and Yuchen Zhang and Jiacheng Chen and Lifan Yuan and Zhi Wang and Yuxin Zuo and others},
    year         = 2025,
    eprint       = {arXiv:2505.22617},
}
""",
}


METHODS: dict[str, type[EntropyControl]] = {}
"""By the name that ``entropy_control`` takes."""


class EntropyControl:
    """A method, registered by defining it: ``class Mine(EntropyControl, name="mine")``.

    The trainer calls ``select`` once a pool, and for each micro-batch what follows it here.

    Class variables say what the config needs to know:

    - ``title``: the name in prose.
    - ``selects``: whether tokens are selected at all.
    - ``settings``: a dataclass of the fields that the method brings into the config (see ``trainer.settings``).
    - ``default_fraction``: of the pool, where the config gives none.
    - ``clip_range``: how far the ratio may go below and above 1 with ``ratio_clip="method"``; None: as ``epsilon``.
    - ``takes_tokens``: whether ``entropy_control_tokens`` can name other tokens than the method's own.
    - ``acts_on_policy``: whether it does anything where every update is made with the policy that sampled.
    - ``logs``: the metrics that it adds, with their meaning.
    - ``paper``: title, arXiv number and BibTeX, for the card of a trained model.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    selects: ClassVar[bool] = True
    settings: ClassVar[type | None] = None
    default_fraction: ClassVar[float | None] = None
    clip_range: ClassVar[tuple[float, float] | None] = None
    takes_tokens: ClassVar[bool] = False
    acts_on_policy: ClassVar[bool] = True
    logs: ClassVar[Mapping[str, str]] = MappingProxyType({})
    paper: ClassVar[Mapping[str, str] | None] = None

    def __init_subclass__(cls, *, name: str, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.name = name
        METHODS[name] = cls

    def __init__(self, config: CovGRPOConfig, device: torch.device) -> None:
        self.config = config

    @classmethod
    def validate(cls, config: CovGRPOConfig) -> None:
        """Raise a ConfigError for settings that do not go together, and warn of what has no effect."""

    def select(self, pool: Pool) -> Tensor:
        """The tokens of this rank that the method restricts: bool ``[B, T]``."""
        raise NotImplementedError

    def advantages(self, advantages: Tensor, selected: Tensor) -> Tensor:
        """The advantages, ``[B]`` or ``[B, T]``, that the loss of a micro-batch is taken with."""
        return advantages

    def penalty(self, log_probs: Tensor, old_log_probs: Tensor | None, selected: Tensor) -> Tensor | None:
        """What is added to each token's loss, ``[B, T]``; None for nothing. ``log_probs`` carry the gradient."""
        return None

    def metrics(self) -> dict[str, Tensor]:
        """What it logs of the step, 0-d and the same on all ranks."""
        return {}

    def after_step(self, metrics: Mapping[str, Tensor]) -> None:
        """Called with the metrics of an optimizer step, 0-d on the device, when its last micro-batch is through."""

    def why_nothing(self, covariances: np.ndarray) -> str | None:
        """Why pools with these covariances gave no token, in words; None where that needs no warning."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""


class NoControl(EntropyControl, name="none"):
    """TRL's own losses, bit for bit."""

    title = "none"
    selects = False
