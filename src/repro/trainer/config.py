"""Configuration of ``CovGRPOTrainer``: its fields, what it refuses, and the published settings."""

import math
import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trl import GRPOConfig

from repro.errors import ConfigError

ENTROPY_CONTROLS = ("none", "clip_cov", "kl_cov")
SCOPES = ("rollout", "step", "micro")
TOKENS = ("covariance", "random", "positive_advantage", "negative_advantage", "rare_failing")
RATIO_CLIPS = ("method", "epsilon", "none")
ADVANTAGE_ESTIMATORS = ("grpo", "rloo", "reinforce++", "prime")
LOSS_TYPES = ("dapo", "grpo", "bnpo", "dr_grpo")
LARGE_FRACTION = 0.05
DEFAULT_FRACTIONS = {"clip_cov": 2e-4, "kl_cov": 2e-3}


def _help(text: str) -> dict[str, str]:
    return {"help": text}


@dataclass
class CovGRPOConfig(GRPOConfig):
    """All of TRL's ``GRPOConfig``, and the covariance methods of arXiv:2505.22617.

    Args:
        entropy_control: ``"none"``, ``"clip_cov"`` (Eq. 12) or ``"kl_cov"`` (Eq. 14).
        entropy_control_fraction: fraction of the tokens that is selected, 0.002 being 0.2 %. By default the paper's at
            7B (section 4.3): 0.0002 for Clip-Cov, 0.002 for KL-Cov.
        entropy_control_minimum: tokens selected at least, per selection. The authors' code has 1.
        entropy_control_scope: what the fraction is a fraction of, and where covariances are centred. ``"rollout"``:
            all tokens of a rollout on all ranks, once, on the log-probabilities they were sampled with; ``"step"``:
            all tokens of an optimizer step on all ranks, on current log-probabilities; ``"micro"``: each micro-batch
            of each rank by itself, as the authors' code does.
        entropy_control_tokens: which tokens KL-Cov penalises, always as many as the method would: ``"covariance"``, the
            largest (the method); for research ``"random"``, uniformly drawn; ``"positive_advantage"`` or
            ``"negative_advantage"``, the largest covariance where A > 0 (A < 0); ``"rare_failing"``, the lowest
            log-probability where A < 0. Where there are fewer such tokens, all of them.
        clip_cov_low, clip_cov_high: the band Clip-Cov draws from, both bounds strict. The paper: 1 and 5.
        kl_cov_coef: weight of KL-Cov's penalty. The paper: 1.
        kl_cov_adaptive: move that weight, from ``kl_cov_coef`` on, so that the entropy holds TRL's ``entropy_target``.
            Integral control of its logarithm, as SAC's of its temperature (arXiv:1812.05905): after every optimizer
            step the weight is multiplied by exp(gain (target - H) / target), H being the mean entropy of the step's
            tokens on all ranks in nats. It comes to rest only where H is at the target, so that methods can be
            compared at equal entropy instead of at equal weights.
        kl_cov_gain: of that control. At 0.5 an entropy 20 % under the target doubles the weight in 7 steps, about a
            rollout: a tenth of that lets the entropy fall far before the weight has grown.
        kl_cov_coef_min, kl_cov_coef_max: bounds of the weight. The lower is the paper's weight, so that a start far
            above the target does not take the weight away before it is needed: the penalty holds entropy far better
            than it restores it.
        ratio_clip: range of PPO's clip. ``"method"``: as the authors ran it, which is [0, 2] for Clip-Cov, none for
            KL-Cov and ``epsilon`` otherwise; ``"epsilon"``: TRL's ``epsilon`` and ``epsilon_high``; ``"none"``: none.
            An ``epsilon`` of None is no clip either.
        allow_large_fraction: accept a fraction over 0.05.
        advantage_estimator: ``"grpo"`` (TRL's own, by group), ``"rloo"``, ``"reinforce++"`` (whitened over the batch)
            or ``"prime"`` (implicit process rewards): the four algorithms of the paper's Fig. 6.
        prime_beta: scale of the implicit reward. PRIME: 0.05.
        prime_learning_rate: of the implicit reward model. The paper (section 2.2): 1e-6.
        filter_groups: drop groups whose rewards are all equal and refill the rollout with further prompts, as the paper
            does (section 4.3) and DAPO: see :mod:`repro.trainer.filter_groups`.
        filter_groups_max_attempts: rounds of sampling for a rollout, the first included; then the rest is filled with
            dropped groups. DAPO's scripts: 10.
        token_sample_every: keep a sample of tokens every so many optimizer steps; 0 keeps none.
        token_sample_size: sequences in each sample of tokens.

    Raises:
        ConfigError: for a value that is unknown or out of range, and for settings that would not do what they say.
    """

    entropy_control: str = field(default="none", metadata=_help("none, clip_cov or kl_cov."))
    entropy_control_fraction: float | None = field(
        default=None, metadata=_help("Fraction of the tokens that is selected (0.002 is 0.2 %).")
    )
    entropy_control_minimum: int = field(default=1, metadata=_help("Tokens selected at least, per selection."))
    entropy_control_scope: str = field(default="rollout", metadata=_help("rollout, step or micro."))
    entropy_control_tokens: str = field(
        default="covariance",
        metadata=_help(
            "Tokens that KL-Cov penalises: covariance, random, positive_advantage, negative_advantage or rare_failing."
        ),
    )
    clip_cov_low: float = field(default=1.0, metadata=_help("Clip-Cov draws above this covariance."))
    clip_cov_high: float = field(default=5.0, metadata=_help("Clip-Cov draws below this covariance."))
    kl_cov_coef: float = field(default=1.0, metadata=_help("Weight of KL-Cov's penalty."))
    kl_cov_adaptive: bool = field(
        default=False, metadata=_help("Move that weight so that the entropy holds entropy_target.")
    )
    kl_cov_gain: float = field(default=0.5, metadata=_help("Gain of the weight's control, per optimizer step."))
    kl_cov_coef_min: float = field(default=1.0, metadata=_help("The weight's control stays above this."))
    kl_cov_coef_max: float = field(default=100.0, metadata=_help("The weight's control stays under this."))
    ratio_clip: str = field(default="method", metadata=_help("Range of PPO's clip: method, epsilon or none."))
    allow_large_fraction: bool = field(default=False, metadata=_help("Accept a fraction over 0.05."))
    advantage_estimator: str = field(default="grpo", metadata=_help("grpo, rloo, reinforce++ or prime."))
    prime_beta: float = field(default=0.05, metadata=_help("Scale of PRIME's implicit reward."))
    prime_learning_rate: float = field(default=1e-6, metadata=_help("Learning rate of PRIME's reward model."))
    filter_groups: bool = field(
        default=False, metadata=_help("Drop groups without different rewards and refill the rollout.")
    )
    filter_groups_max_attempts: int = field(
        default=10, metadata=_help("Rounds of sampling for a rollout, the first included.")
    )
    token_sample_every: int = field(
        default=0, metadata=_help("Keep a sample of tokens every so many optimizer steps; 0 keeps none.")
    )
    token_sample_size: int = field(default=32, metadata=_help("Sequences in each sample of tokens."))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_names()
        self._check_ranges()
        if self.entropy_control_fraction is None:
            self.entropy_control_fraction = DEFAULT_FRACTIONS.get(self.entropy_control)
        if self.use_liger_kernel:
            raise ConfigError(
                "use_liger_kernel=True can replace the forward that the covariance is taken from: unset it, or take "
                "the Hub's kernels with model_init_kwargs={'use_kernels': True}"
            )
        if self.advantage_estimator != "grpo":
            self._check_estimator()
        if self.entropy_control_tokens != "covariance" and self.entropy_control != "kl_cov":
            raise ConfigError(
                f"entropy_control_tokens={self.entropy_control_tokens!r} says which tokens KL-Cov penalises, and "
                f"entropy_control is {self.entropy_control!r}: leave it at 'covariance', or set "
                "entropy_control='kl_cov'"
            )
        if self.kl_cov_adaptive:
            self._check_adaptive()
        if self.entropy_control != "none":
            self._check_control()
        elif self.on_policy and self.epsilon_high is not None:
            warnings.warn(
                f"epsilon_high={self.epsilon_high} has no effect: {self._schedule}, so the ratio is always 1; "
                f"{self._more_updates}",
                stacklevel=3,
            )

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "CovGRPOConfig":
        """The published settings of a run, see ``PRESETS``; any of them can be overridden.

        What depends on the hardware is left to you: the published runs make one rollout of 2048 sequences
        (``generation_batch_size``) into 8 updates, so ``per_device_train_batch_size`` times
        ``gradient_accumulation_steps`` times the number of ranks should be 256.

        Raises:
            ConfigError: for an unknown name, naming those there are.
        """
        if name not in PRESETS:
            raise ConfigError(f"preset {name!r} is unknown: choose one of {', '.join(PRESETS)}")
        return cls(**({key: setting.value for key, setting in PRESETS[name].items()} | overrides))

    @property
    def updates_from(self) -> int:
        """Micro-batches of one rank that are made from one rollout."""
        return self.steps_per_generation * self.num_iterations

    @property
    def on_policy(self) -> bool:
        """Whether every update is made with the policy that sampled, so that the ratio is always 1."""
        return self.gradient_accumulation_steps % self.updates_from == 0

    @property
    def effective_scope(self) -> str:
        """The scope of selection. On-policy a rollout is one step, and its log-probabilities are the current ones."""
        return "step" if self.entropy_control_scope == "rollout" and self.on_policy else self.entropy_control_scope

    @property
    def clip_range(self) -> tuple[float, float]:
        """How far the ratio may go below and above 1; infinity for no clip."""
        if self.ratio_clip == "none" or (self.ratio_clip == "method" and self.entropy_control == "kl_cov"):
            return math.inf, math.inf
        if self.ratio_clip == "method" and self.entropy_control == "clip_cov":
            return 1.0, 1.0
        low = math.inf if self.epsilon is None else self.epsilon
        return low, low if self.epsilon_high is None else self.epsilon_high

    @property
    def _schedule(self) -> str:
        return (
            f"with steps_per_generation={self.steps_per_generation}, num_iterations={self.num_iterations} and "
            f"gradient_accumulation_steps={self.gradient_accumulation_steps} every update is on-policy"
        )

    @property
    def _more_updates(self) -> str:
        accumulation = self.gradient_accumulation_steps
        multiple = f", a multiple of {accumulation}" if accumulation > 1 else ""
        return (
            f"set steps_per_generation to {2 * accumulation} or more{multiple} (the paper's 8 updates per rollout: "
            f"{8 * accumulation}), or num_iterations to 2 or more"
        )

    def _check_names(self) -> None:
        for name, allowed in (
            ("entropy_control", ENTROPY_CONTROLS),
            ("entropy_control_scope", SCOPES),
            ("entropy_control_tokens", TOKENS),
            ("ratio_clip", RATIO_CLIPS),
            ("advantage_estimator", ADVANTAGE_ESTIMATORS),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}={getattr(self, name)!r} is unknown: choose one of {', '.join(allowed)}")

    def _check_ranges(self) -> None:
        for name in ("kl_cov_coef", "epsilon", "epsilon_high", "beta", "entropy_coef"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigError(f"{name}={value} is negative: pass 0 or more")
        for name in ("prime_beta", "prime_learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)}: pass a positive number")
        for name in ("entropy_control_minimum", "token_sample_every", "token_sample_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ConfigError(f"{name}={value!r}: pass a whole number, 0 or more")
        attempts = self.filter_groups_max_attempts
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise ConfigError(f"filter_groups_max_attempts={attempts!r}: pass a whole number, 1 or more")
        if not isinstance(self.filter_groups, bool):
            raise ConfigError(f"filter_groups={self.filter_groups!r}: pass True or False")
        if not self.clip_cov_low < self.clip_cov_high:
            raise ConfigError(
                f"clip_cov_low={self.clip_cov_low} is not under clip_cov_high={self.clip_cov_high}: no token can be "
                "between them; the paper has 1 and 5"
            )
        fraction = self.entropy_control_fraction
        if fraction is None:
            return
        if isinstance(fraction, bool) or not 0 <= fraction <= 1:
            raise ConfigError(f"entropy_control_fraction={fraction!r}: pass a fraction of the tokens between 0 and 1")
        if fraction > LARGE_FRACTION and not self.allow_large_fraction:
            raise ConfigError(
                f"entropy_control_fraction={fraction} is {fraction:.0%} of the tokens (the paper: 0.0002 to 0.002): "
                f"for {fraction} % pass {fraction / 100:g}, or set allow_large_fraction=True if you mean it"
            )

    def _check_estimator(self) -> None:
        if self.multi_objective_aggregation != "sum_then_normalize":
            raise ConfigError(
                f"multi_objective_aggregation={self.multi_objective_aggregation!r} is for advantage_estimator='grpo': "
                f"set it to 'sum_then_normalize' with {self.advantage_estimator!r}"
            )
        if self.scale_rewards != "group":
            raise ConfigError(
                f"scale_rewards={self.scale_rewards!r} is for advantage_estimator='grpo': leave it unset, "
                f"{self.advantage_estimator!r} has a scale of its own"
            )

    def _check_adaptive(self) -> None:
        if self.entropy_control != "kl_cov":
            raise ConfigError(
                f"kl_cov_adaptive=True moves the weight of KL-Cov's penalty, and entropy_control is "
                f"{self.entropy_control!r}: set entropy_control='kl_cov', or leave kl_cov_adaptive unset"
            )
        if self.use_adaptive_entropy:
            raise ConfigError(
                "kl_cov_adaptive=True and use_adaptive_entropy=True both steer the entropy to entropy_target: two "
                "controllers of one quantity work against each other, so unset one of them"
            )
        for name in ("entropy_target", "kl_cov_gain", "kl_cov_coef_min"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)}: pass a positive number with kl_cov_adaptive=True")
        low, start, high = self.kl_cov_coef_min, self.kl_cov_coef, self.kl_cov_coef_max
        if not low <= start <= high:
            raise ConfigError(
                f"kl_cov_coef={start} is not between kl_cov_coef_min={low} and kl_cov_coef_max={high}: the weight "
                "starts at kl_cov_coef and stays between the two"
            )

    def _check_control(self) -> None:
        control = f"entropy_control={self.entropy_control!r}"
        if self.loss_type not in LOSS_TYPES:
            raise ConfigError(
                f"{control} is not defined for loss_type={self.loss_type!r}, which has no clipped ratio per token: set "
                f"loss_type to one of {', '.join(LOSS_TYPES)}"
            )
        if self.importance_sampling_level != "token":
            raise ConfigError(
                f"{control} selects tokens, but importance_sampling_level={self.importance_sampling_level!r} has one "
                "ratio per sequence: set it to 'token'"
            )
        if self.delta is not None and math.inf in self.clip_range:
            raise ConfigError(
                f"delta={self.delta} bounds the ratio while ratio_clip={self.ratio_clip!r} leaves it unclipped: unset "
                "delta, or set ratio_clip='epsilon'"
            )
        if self.entropy_control == "kl_cov" and self.on_policy:
            raise ConfigError(
                f"{control} does nothing here: {self._schedule}, so |log pi - log pi_old| and its gradient are 0; "
                f"{self._more_updates}, or take entropy_control='clip_cov'"
            )
        if self.effective_scope == "step" and self.updates_from % self.gradient_accumulation_steps:
            raise ConfigError(
                f"entropy_control_scope={self.entropy_control_scope!r} needs all tokens of an optimizer step at its "
                f"start, but gradient_accumulation_steps={self.gradient_accumulation_steps} does not divide "
                f"steps_per_generation x num_iterations = {self.updates_from}: make it divide, or set the scope "
                "to 'micro'"
            )


def clips_tokens(config: GRPOConfig) -> bool:
    """Whether the loss clips each token's ratio."""
    return config.loss_type in LOSS_TYPES and config.importance_sampling_level == "token"


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
