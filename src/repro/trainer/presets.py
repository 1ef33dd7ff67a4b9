"""The published settings, each with its source. What they leave open is the hardware's: see ``UPDATES``."""

from typing import Any, NamedTuple

UPDATES = 8
"""Optimizer steps that the published runs make of a rollout."""


class Setting(NamedTuple):
    """A published value and where it stands. ``scripts``: the authors' repository, ``recipe/dapo/*.sh``, at 8850579."""

    value: Any
    source: str


_SHARED = {
    "generation_batch_size": Setting(2048, "section 4.3: 256 prompts x 8 responses"),
    "num_generations": Setting(8, "section 4.3"),
    "num_iterations": Setting(1, "section 4.3: one pass, in 8 updates"),
    "temperature": Setting(1.0, "section 4.3"),
    "max_completion_length": Setting(8192, "section 4.3"),
    "scale_rewards": Setting("group", "Eq. 3"),
    "loss_type": Setting("dapo", "scripts: loss_agg_mode=token-mean"),
    "beta": Setting(0.0, "scripts: no reference KL"),
    "entropy_coef": Setting(0.0, "scripts: entropy_coeff=0"),
    "lr_scheduler_type": Setting("constant", "scripts: constant, no warm-up"),
    "weight_decay": Setting(0.0, "scripts"),
    "max_grad_norm": Setting(1.0, "scripts"),
}
_SIZES = {
    "7b": {"learning_rate": Setting(5e-7, "scripts since commit 745b301 (1e-6 before); section 2.2")},
    "32b": {"learning_rate": Setting(1e-6, "scripts")},
}
_GRPO = {
    "entropy_control": Setting("none", "section 4.3: the baseline"),
    "epsilon": Setting(0.2, "section 2.2; scripts"),
}
_CLIP_HIGHER = _GRPO | {"epsilon_high": Setting(0.28, "section 4.3")}
_CLIP_COV = {
    "entropy_control": Setting("clip_cov", "Eq. 12"),
    "entropy_control_fraction": Setting(2e-4, "section 4.3: r"),
    "clip_cov_low": Setting(1.0, "section 4.3: omega_low"),
    "clip_cov_high": Setting(5.0, "section 4.3: omega_high"),
    "ratio_clip": Setting("method", "scripts: clip ratio low and high 1, so the ratio is clipped to [0, 2]"),
}
_KL_COV = {
    "entropy_control": Setting("kl_cov", "Eq. 14"),
    "kl_cov_coef": Setting(1.0, "section 4.3: beta"),
    "ratio_clip": Setting("method", "Listing 1: no clip (the scripts pass 0.2, which the loss does not read)"),
}
PRESETS: dict[str, dict[str, Setting]] = {
    "grpo-7b": _SHARED | _SIZES["7b"] | _GRPO,
    "grpo-32b": _SHARED | _SIZES["32b"] | _GRPO,
    "clip-higher-7b": _SHARED | _SIZES["7b"] | _CLIP_HIGHER,
    "clip-higher-32b": _SHARED | _SIZES["32b"] | _CLIP_HIGHER,
    "clip-cov-7b": _SHARED | _SIZES["7b"] | _CLIP_COV,
    "clip-cov-32b": _SHARED | _SIZES["32b"] | _CLIP_COV,
    "kl-cov-7b": _SHARED
    | _SIZES["7b"]
    | _KL_COV
    | {"entropy_control_fraction": Setting(2e-3, "section 4.3: k at 7B; scripts: k_percent=0.2")},
    "kl-cov-32b": _SHARED
    | _SIZES["32b"]
    | _KL_COV
    | {"entropy_control_fraction": Setting(2e-4, "section 4.3: k at 32B; scripts: k_percent=0.02")},
}
