"""Configuration of ``CovGRPOTrainer``: its fields, and what it refuses or warns of."""

import math
import warnings
from dataclasses import dataclass, fields
from numbers import Real
from typing import Annotated, Any

from trl import GRPOConfig

from repro.errors import ConfigError
from repro.trainer.methods import METHODS, EntropyControl
from repro.trainer.methods.pool import BUDGETS, ENTROPY_SELECTORS, SELECTORS
from repro.trainer.presets import PRESETS, UPDATES
from repro.trainer.settings import Choice, Rule, flag, number, rules, setting, whole

SCOPES = ("rollout", "step", "micro")
RATIO_CLIPS = ("method", "epsilon", "none")
ADVANTAGE_ESTIMATORS = ("grpo", "rloo", "reinforce++", "prime")
LOSS_TYPES = ("dapo", "grpo", "bnpo", "dr_grpo")
ALIKE = ("dapo", "dr_grpo")
"""Loss types in which every token of a rollout has the same weight."""
LARGE_FRACTION = 0.05
PERCENT = 0.01
"""From here on a fraction may have been meant as percent: the paper has 0.0002 to 0.002."""

FRACTION = Rule(
    Real,
    lambda value: 0 < value <= 1,
    "a fraction of the tokens over 0 and up to 1 (0.002 is 0.2 %), and entropy_control='none' for no selection",
    optional=True,
)
TRL_RULES = {
    "learning_rate": number(0),
    "weight_decay": number(0),
    "max_grad_norm": number(0),
    "temperature": number(0, above=True),
    "epsilon": number(0, optional=True, infinite=True),
    "epsilon_high": number(0, optional=True, infinite=True),
    "delta": number(1, above=True, optional=True),
    "beta": number(0),
    "entropy_coef": number(0),
    "entropy_target": number(0),
    "top_entropy_quantile": number(0, high=1),
    "per_device_train_batch_size": whole(1),
    "gradient_accumulation_steps": whole(1),
    "num_iterations": whole(1),
    "num_generations": whole(2),
    "max_completion_length": whole(1),
}
"""What fields of TRL's may be that it does not check itself."""


@dataclass
class CovGRPOConfig(*(method.settings for method in METHODS.values() if method.settings), GRPOConfig):
    """All of TRL's ``GRPOConfig``, and the covariance methods of arXiv:2505.22617.

    What a field beyond TRL's means stands in its ``metadata["help"]``, which the command line of ``TrlParser`` and the
    table in the book's page on the trainer show. Those of one method come from its class in ``trainer.methods``.

    Raises:
        ConfigError: for a value that is unknown, of another type or out of range, and for settings that would not do
            what they say. A setting that has no effect is warned of, with what would make it count.
    """

    entropy_control: Annotated[str, Choice(METHODS)] = setting(
        "none", "Method: none, clip_cov (Eq. 12 of arXiv:2505.22617) or kl_cov (Eq. 14)."
    )
    entropy_control_fraction: Annotated[float | None, FRACTION] = setting(
        None,
        "Fraction of the tokens that is selected (0.002 is 0.2 %); by default the paper's at 7B, 0.0002 for Clip-Cov "
        "and 0.002 for KL-Cov.",
    )
    entropy_control_budget: Annotated[str, Choice(BUDGETS)] = setting(
        "tokens",
        "What the fraction is one of: tokens, or gradient (the norm of each token's policy gradient with respect to "
        "its own logits, summed; for the comparison of methods at equal removed gradient, and without a default "
        "fraction).",
    )
    entropy_control_tokens: Annotated[str, Choice(("method", *SELECTORS))] = setting(
        "method",
        "Tokens that are selected: method (KL-Cov's largest covariance, Clip-Cov's draw from its band) or, for "
        f"research, {', '.join(list(SELECTORS)[:-1])} or {list(SELECTORS)[-1]}.",
    )
    entropy_control_minimum: Annotated[int, whole(0)] = setting(1, "Tokens selected at least, per selection.")
    entropy_control_scope: Annotated[str, Choice(SCOPES)] = setting(
        "rollout",
        "The pool that the fraction is one of and covariances are centred over: rollout (all its tokens on all ranks, "
        "on the log-probabilities they were sampled with), step (all tokens of an optimizer step on all ranks, on "
        "current ones) or micro (each micro-batch of each rank by itself, as the authors' code).",
    )
    ratio_clip: Annotated[str, Choice(RATIO_CLIPS)] = setting(
        "method",
        "Range of PPO's clip: method (as the authors ran it: [0, 2] for Clip-Cov, none for KL-Cov, else epsilon), "
        "epsilon (TRL's epsilon and epsilon_high) or none.",
    )
    allow_large_fraction: Annotated[bool, flag()] = setting(False, "Accept a fraction over 0.05.")
    advantage_estimator: Annotated[str, Choice(ADVANTAGE_ESTIMATORS)] = setting(
        "grpo",
        "grpo (TRL's, by group), rloo, reinforce++ (whitened over the batch) or prime (implicit process rewards).",
    )
    prime_beta: Annotated[float, number(0, above=True)] = setting(0.05, "Scale of PRIME's implicit reward.")
    prime_learning_rate: Annotated[float, number(0, above=True)] = setting(
        1e-6, "Learning rate of PRIME's reward model."
    )
    filter_groups: Annotated[bool, flag()] = setting(
        False,
        "Drop groups whose rewards are all equal and refill the rollout with further prompts, as the paper (section "
        "4.3) and DAPO do.",
    )
    filter_groups_max_attempts: Annotated[int, whole(1)] = setting(
        10,
        "Rounds of sampling for a rollout, the first included; then the rest is filled with dropped groups. DAPO's "
        "scripts: 10.",
    )
    token_sample_every: Annotated[int, whole(0)] = setting(
        0, "Keep tokens of every so many optimizer steps, for trainer.sampled_tokens(); 0 keeps none."
    )
    token_sample_size: Annotated[int, whole(0)] = setting(32, "Sequences kept of such a step.")

    _served = False
    """Whether a trainer that knows these fields has taken the config."""

    def __post_init__(self) -> None:
        self._check_values()
        by_batch_size = self.generation_batch_size is not None
        super().__post_init__()
        self._rollout_field = "generation_batch_size" if by_batch_size else "steps_per_generation"
        if self.use_liger_kernel:
            raise ConfigError(
                "use_liger_kernel=True can replace the forward that the covariance is taken from: unset it, or take "
                "the Hub's kernels with model_init_kwargs={'use_kernels': True}"
            )
        if self.advantage_estimator != "grpo":
            self._check_estimator()
        self._check_idle()
        if self.method.selects:
            if self.entropy_control_budget == "gradient":
                self._check_gradient()
            else:
                if self.entropy_control_fraction is None:
                    self.entropy_control_fraction = self.method.default_fraction
                self._check_fraction()
            self._check_control()
            self.method.validate(self)
        elif self.on_policy and self.epsilon_high is not None:
            remedy = " or ".join(f"{name} to {value}" for name, value in self.off_policy_remedies().items())
            _warn(
                f"epsilon_high={self.epsilon_high} has no effect: {self._schedule}, so the ratio is always 1; "
                f"set {remedy}"
            )

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "CovGRPOConfig":
        """The published settings of a run, see ``PRESETS``; any of them can be overridden.

        What depends on the hardware is left to you: the published runs make one rollout of 2048 sequences
        (``generation_batch_size``) into 8 updates, so ``per_device_train_batch_size`` times
        ``gradient_accumulation_steps`` times the number of ranks must be 256. With ``steps_per_generation``, which
        takes the place of ``generation_batch_size``, or ``num_iterations`` the schedule is yours, and another number
        of updates is only warned of.

        Raises:
            ConfigError: for an unknown name, naming those there are; for settings that do not go together or make
                another number of updates, naming the preset.
        """
        if name not in PRESETS:
            raise ConfigError(f"preset {name!r} is unknown: choose one of {', '.join(PRESETS)}")
        published = {key: setting.value for key, setting in PRESETS[name].items()}
        if overrides.get("steps_per_generation") is not None and "generation_batch_size" not in overrides:
            del published["generation_batch_size"]
        try:
            config = cls(**(published | overrides))
            config._check_updates(own_schedule=bool({"steps_per_generation", "num_iterations"} & overrides.keys()))
        except ValueError as error:
            raise ConfigError(f"preset {name!r}: {error}") from error
        return config

    @property
    def method(self) -> type[EntropyControl]:
        """The method of ``entropy_control``."""
        return METHODS[self.entropy_control]

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
    def needs_moments(self) -> bool:
        """Whether a selection needs more of the policy's distributions than the tokens' log-probabilities."""
        by_entropy = self.entropy_control_tokens in ENTROPY_SELECTORS
        return self.method.selects and (by_entropy or self.entropy_control_budget == "gradient")

    @property
    def clip_range(self) -> tuple[float, float]:
        """How far the ratio may go below and above 1; infinity for no clip."""
        if self.ratio_clip == "none":
            return math.inf, math.inf
        if self.ratio_clip == "method" and self.method.clip_range is not None:
            return self.method.clip_range
        low = math.inf if self.epsilon is None else self.epsilon
        return low, low if self.epsilon_high is None else self.epsilon_high

    @property
    def train_batch_size(self) -> int:
        """TRL's. Every trainer asks for it when it is made: one that does not know our fields is warned of."""
        if not self._served:
            changed = [field.name for field in own_fields() if getattr(self, field.name) != field.default]
            if changed:
                _warn(
                    f"{', '.join(f'{name}={getattr(self, name)!r}' for name in changed)} in a CovGRPOConfig counts in "
                    "CovGRPOTrainer alone, and another trainer was given it: use CovGRPOTrainer, or a GRPOConfig"
                )
        return super().train_batch_size

    def off_policy_remedies(self) -> dict[str, int]:
        """Fields of the schedule, each with the least value that makes two optimizer steps of a rollout.

        On-policy the micro-batches of a rollout divide those of an optimizer step.
        """
        steps = 2 * self.gradient_accumulation_steps
        slices = steps // self.num_iterations
        if self._rollout_field == "generation_batch_size":
            slices *= self.generation_batch_size // self.steps_per_generation
        return {self._rollout_field: slices, "num_iterations": steps // self.steps_per_generation}

    @property
    def _schedule(self) -> str:
        return (
            f"with steps_per_generation={self.steps_per_generation}, num_iterations={self.num_iterations} and "
            f"gradient_accumulation_steps={self.gradient_accumulation_steps} every update is on-policy"
        )

    def _check_values(self) -> None:
        for name, rule in (rules(type(self)) | TRL_RULES).items():
            rule.check(name, getattr(self, name))
        for name in ("steps_per_generation", "generation_batch_size"):
            if getattr(self, name) is not None:
                whole(1).check(name, getattr(self, name))

    def _check_idle(self) -> None:
        """Warn of settings that have no effect, and refuse those that name another way of training than this one."""
        control = f"entropy_control={self.entropy_control!r}"
        for name, method in METHODS.items():
            if method is self.method or method.settings is None:
                continue
            for field in fields(method.settings):
                value = getattr(self, field.name)
                if value == field.default:
                    continue
                what = f"{field.name}={value!r} is a setting of {method.title}, and {control}"
                if isinstance(value, bool | str):
                    raise ConfigError(f"{what}: set entropy_control={name!r}, or leave it at {field.default!r}")
                _warn(f"{what}, where it has no effect: set entropy_control={name!r}")
        if self.entropy_control_tokens != "method" and not self.method.takes_tokens:
            others = " or ".join(repr(name) for name, method in METHODS.items() if method.takes_tokens)
            raise ConfigError(
                f"entropy_control_tokens={self.entropy_control_tokens!r} names other tokens than a method's own, and "
                f"{control} takes none: set entropy_control to {others}, or leave it at 'method'"
            )
        defaults = {field.name: field.default for field in fields(self)}
        idle = {}
        if not self.method.selects:
            others = " or ".join(repr(name) for name, method in METHODS.items() if method.selects)
            for name in ("fraction", "minimum", "scope"):
                idle[f"entropy_control_{name}"] = f"set entropy_control to {others}"
            if self.entropy_control_budget == "gradient":
                raise ConfigError(
                    f"entropy_control_budget='gradient' is of a selection, and {control} makes none: set "
                    f"entropy_control to {others}, or leave it at 'tokens'"
                )
        elif self.entropy_control_budget == "gradient":
            idle["entropy_control_minimum"] = (
                "a share of gradient takes a token wherever there is gradient, so unset it"
            )
        if self.advantage_estimator != "prime":
            idle |= dict.fromkeys(("prime_beta", "prime_learning_rate"), "set advantage_estimator='prime'")
        if not self.filter_groups:
            idle["filter_groups_max_attempts"] = "set filter_groups=True"
        if self.token_sample_every == 0:
            idle["token_sample_size"] = "set token_sample_every to 1 or more"
        if self.ratio_clip == "none" or (self.ratio_clip == "method" and self.method.clip_range is not None):
            clip = f"ratio_clip={self.ratio_clip!r} with {control} does not read it"
            idle |= dict.fromkeys(("epsilon", "epsilon_high"), f"{clip}, so set ratio_clip='epsilon'")
        for name, remedy in idle.items():
            if getattr(self, name) != defaults[name]:
                _warn(f"{name}={getattr(self, name)!r} has no effect: {remedy}")

    def _check_fraction(self) -> None:
        fraction, length = self.entropy_control_fraction, self.max_completion_length
        if self.allow_large_fraction or fraction < PERCENT:
            return
        tokens = ""
        if length is not None:
            rollout = self.generation_batch_size * length
            tokens = (
                f", up to {fraction * rollout:.0f} of the {rollout} tokens of {self.generation_batch_size} responses "
                f"of {length}"
            )
        what = (
            f"entropy_control_fraction={fraction:g} is {100 * fraction:.3g} % of the tokens{tokens} (the paper: 0.0002 "
            f"to 0.002): for {fraction:g} % pass {fraction / 100:g}, or set allow_large_fraction=True if you mean it"
        )
        if fraction > LARGE_FRACTION:
            raise ConfigError(what)
        # Where responses are so short that this is less than one token of each, a large fraction is what it takes.
        if length is not None and fraction * length >= 1:
            _warn(what)

    def _check_gradient(self) -> None:
        """What a share of gradient needs: to be given, and a loss whose gradient is that of its tokens alone."""
        budget = "entropy_control_budget='gradient'"
        if self.entropy_control_fraction is None:
            raise ConfigError(
                f"{budget} has no published fraction: set entropy_control_fraction to the share of the policy gradient "
                "to select (0.08 is 8 %)"
            )
        if self.loss_type not in ALIKE:
            raise ConfigError(
                f"{budget} takes tokens as equal, and loss_type={self.loss_type!r} weighs them by the length of their "
                f"response or the size of a micro-batch: set loss_type to {' or '.join(map(repr, ALIKE))}"
            )
        changed = {
            "top_entropy_quantile": self.top_entropy_quantile < 1.0,
            "off_policy_mask_threshold": self.off_policy_mask_threshold is not None,
            "vllm_importance_sampling_correction": self.use_vllm and self.vllm_importance_sampling_correction,
        }
        for name, present in changed.items():
            if present:
                raise ConfigError(
                    f"{budget} does not know of {name}={getattr(self, name)!r}, which takes gradient from tokens by "
                    f"itself: set {name} to {'False' if getattr(self, name) is True else 'its default'}"
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
        if self.on_policy and not self.method.acts_on_policy:
            remedies = self.off_policy_remedies()
            others = [name for name, method in METHODS.items() if method.selects and method.acts_on_policy]
            whole_steps = self.updates_from == self.gradient_accumulation_steps
            instead = f", or take entropy_control={' or '.join(map(repr, others))}" if whole_steps else ""
            (first, value), (second, passes) = remedies.items()
            raise ConfigError(
                f"{control} does nothing here: {self._schedule}, so |log pi - log pi_old| and its gradient are 0; "
                f"set {first} to {value} (the paper's {UPDATES} updates per rollout: {UPDATES // 2 * value}) or "
                f"{second} to {passes}{instead}"
            )
        if self.effective_scope == "step" and self.updates_from % self.gradient_accumulation_steps:
            raise ConfigError(
                f"entropy_control_scope={self.entropy_control_scope!r} needs all tokens of an optimizer step at its "
                f"start, but gradient_accumulation_steps={self.gradient_accumulation_steps} does not divide "
                f"steps_per_generation x num_iterations = {self.updates_from}: make it divide, or set the scope "
                "to 'micro'"
            )

    def _check_updates(self, own_schedule: bool) -> None:
        """Whether a rollout is made into as many updates as the published runs make of one."""
        accumulation = self.gradient_accumulation_steps
        if self.updates_from == UPDATES * accumulation:
            return
        one = self.generation_batch_size // self.steps_per_generation
        per_update = self.generation_batch_size * self.num_iterations / UPDATES
        what = (
            f"{self.generation_batch_size} sequences in micro-batches of {one} over all ranks, "
            f"gradient_accumulation_steps={accumulation} and num_iterations={self.num_iterations} make "
            f"{self.updates_from / accumulation:g} updates of a rollout and not the published {UPDATES}"
        )
        remedy = (
            f"set gradient_accumulation_steps={per_update / one:.0f}"
            if per_update % one == 0
            else f"choose per_device_train_batch_size x gradient_accumulation_steps x ranks = {per_update:g}"
        )
        if not own_schedule:
            raise ConfigError(f"{what}: {remedy}")
        _warn(f"{what}: {remedy}, unless you mean it")


def own_fields() -> list[Any]:
    """The fields that TRL's config does not have."""
    theirs = {field.name for field in fields(GRPOConfig)}
    return [field for field in fields(CovGRPOConfig) if field.name not in theirs]


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=5)
