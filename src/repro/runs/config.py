"""The config of a run: everything that changes its result, and the identity that follows from it."""

import hashlib
import json
import math
import types
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator, ValidationError, model_validator

from repro import policies, tasks
from repro.checked import Checked, one_line
from repro.errors import ConfigError
from repro.policies.settings import PolicySettings

Scalar = bool | int | float | str | None
# Identities compare with the defaults of the day a field came. A default that is changed goes in here as it was, so
# that every record stays where it is and means what it meant.
FIRST_DEFAULTS: Mapping[str, Any] = {}


def _trainer(values: Any) -> Mapping[str, Scalar]:
    """A read-only copy sorted by name."""
    if not isinstance(values, Mapping):
        found = f"{values!r} ({type(values).__name__})"
        raise ValueError(f"{found} is not allowed; it must map field names of CovGRPOConfig to values")
    for name, value in values.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{name!r} is not a field name of CovGRPOConfig")
        infinite = type(value) is float and not math.isfinite(value)
        if type(value) not in (bool, int, float, str, type(None)) or infinite:
            raise ValueError(
                f"{name}={value!r} ({type(value).__name__}) is not allowed; it must be a finite number, a string, "
                "true, false or null"
            )
    return types.MappingProxyType({name: values[name] for name in sorted(values)})


LABEL, PART = r"[A-Za-z0-9][A-Za-z0-9_.]*", r"[A-Za-z0-9][A-Za-z0-9_.-]*"
Label = Annotated[str, Field(pattern=f"^{LABEL}$")]
Name = Annotated[str, Field(pattern=f"^({LABEL}|[a-z]+:{PART}(/{PART})?)$")]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
TrainerFields = Annotated[Mapping[str, Scalar], PlainValidator(_trainer), PlainSerializer(dict)]
# What differs from the defaults alone, so that a new setting leaves identities as they are.
Policy = Annotated[PolicySettings, PlainSerializer(lambda settings: settings.model_dump(exclude_defaults=True))]


class RunConfig(Checked):
    """One run. Every field changes the result, and every value is checked on construction.

    Names are TRL's where TRL has the thing. Steps are optimizer steps. A rollout samples ``prompts_per_rollout *
    num_generations`` completions, which ``steps_per_generation`` micro-batches share equally. ``trainer`` holds further
    fields of ``CovGRPOConfig``.

    Raises:
        ConfigError: naming the field, the value and what is allowed.
    """

    base: Name = "s"
    """The base policy: its name under ``bases/``, or ``hub:`` or ``local:`` and the name of a pinned one."""
    policy: Policy = PolicySettings()
    """How a pinned base policy is loaded, prompted and trained; nothing of it for a base under ``bases/``."""
    task: Name = "arithmetic"
    """By its name in ``repro.tasks``; ``gym:`` and a kind of reasoning-gym; ``hub:`` or ``local:`` and a pinned set."""
    seed: Annotated[int, Field(ge=0)] = 0
    arm: Label = "grpo"
    """Label of the method, for people; the method itself is in the other fields."""
    max_steps: Count = 960
    prompts_per_rollout: Count = 64
    num_generations: Annotated[int, Field(ge=2)] = 8
    """Samples a prompt: the paper's K (section 2.2)."""
    sampler: Literal["own", "trl", "vllm"] = "own"
    """Who samples rollouts: the fast sampler for small policies, transformers' ``generate`` in TRL, or vLLM in TRL."""
    reward: Literal["accuracy", "random"] = "accuracy"
    """1 for a correct completion and 0 for any other; or ``random``: 1 or 0 by the toss of a coin."""
    steps_per_generation: Count = 4
    """Micro-batches that a rollout is cut into."""
    gradient_accumulation_steps: Count = 1
    """Micro-batches of an optimizer step, over which its gradient accumulates."""
    learning_rate: Positive = 2e-4
    epsilon: Positive | None = 0.2
    """PPO clip range below 1, and above it too unless ``epsilon_high`` is set (section 2.2); null for no clip."""
    epsilon_high: Positive | None = None
    temperature: Positive = 1.0
    max_completion_length: Count = 16
    """Tokens."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Rewards are divided by the standard deviation of the group (the paper's Eq. 3), of the batch, or not at all."""
    eval_steps: Count = 20
    """Optimizer steps between evaluations on the fixed validation set; step 0 and the last one are always evaluated."""
    eval_prompts: Count = 256
    eval_samples: Count = 8
    """Completions a validation prompt: the k of mean@k and pass@k."""
    eval_samples_last: Count = 64
    """The same for the evaluation after the last step."""
    eval_temperature: Positive = 1.0
    eval_rollout_samples: Annotated[int, Field(ge=0)] = 0
    """Further completions a validation prompt, sampled as rollouts are: at ``temperature``; 0 for none."""
    eval_answers: Annotated[int, Field(ge=0)] = 0
    """Of how many validation problems the record keeps answers in words, at each evaluation."""
    probe_every: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps between measurements of a step's effect on the entropy of its own states; 0 for none."""
    trainer: TrainerFields = Field(default_factory=lambda: _trainer({}))

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(one_line(error)) from None

    @model_validator(mode="after")
    def _rollout_is_shared(self) -> "RunConfig":
        completions = self.prompts_per_rollout * self.num_generations
        if completions % self.steps_per_generation:
            raise ValueError(
                f"steps_per_generation={self.steps_per_generation} does not divide the {completions} completions of a "
                f"rollout (prompts_per_rollout={self.prompts_per_rollout} times num_generations="
                f"{self.num_generations}); choose a divisor"
            )
        if self.steps_per_generation % self.gradient_accumulation_steps:
            raise ValueError(
                f"gradient_accumulation_steps={self.gradient_accumulation_steps} does not divide "
                f"steps_per_generation={self.steps_per_generation}; choose a divisor"
            )
        return self

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __reduce__(self) -> tuple[Callable[..., "RunConfig"], tuple[dict[str, Any]]]:
        # A mapping proxy cannot be pickled; the plain dictionary can.
        return RunConfig.from_dict, (self.to_dict(),)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "") -> "RunConfig":
        """Make a config from plain values; ``source`` says in errors where they come from.

        Raises:
            ConfigError: for an unknown field, or a value that the field cannot have.
        """
        try:
            return cls(**{str(name): value for name, value in values.items()})
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}" if source else str(error)) from None

    def replace(self, **changes: Any) -> "RunConfig":
        """The same config with other values for some fields, checked again."""
        return RunConfig(**{**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, in the order of their definition."""
        return self.model_dump()

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, so that equal configs give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def updates_per_rollout(self) -> int:
        """Optimizer steps that a rollout is used for, once over."""
        return self.steps_per_generation // self.gradient_accumulation_steps

    @property
    def base_sha256(self) -> str:
        """The identity of the base policy: SHA-256 of an embedded one's weights, or of a pinned one's checksums.

        Raises:
            BaseError: when the base policy is not there, or not pinned.
        """
        return policies.identity(self.base)

    @property
    def content(self) -> dict[str, Any]:
        """What the run is, in few words: the fields that differ from the defaults, without the label of the arm."""
        return {name: value for name, value in self.to_dict().items() if name != "arm" and value != _defaults()[name]}

    @property
    def identity(self) -> str:
        """12 hexadecimal digits that differ whenever the content, the base policy's weights or published problems do.

        A new field with a default leaves every identity as it was, and so does another label.
        """
        content = json.dumps(self.content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        parts = [content, self.base_sha256, *filter(None, [tasks.identity(self.task)])]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    @property
    def kind(self) -> str:
        """Identity of the arm: the same for all seeds."""
        return self.replace(seed=0).identity

    @property
    def folder(self) -> str:
        """Name of the record's folder: base, seed and identity. Arms that are the same run share a record."""
        base = self.base.rpartition(":")[2].rpartition("/")[2]
        return f"{base}-seed{self.seed}-{self.identity}"

    @property
    def name(self) -> str:
        """Readable and unique: arm, base, seed and identity."""
        return f"{self.arm}-{self.folder}"

    def agrees(self, recorded: Mapping[str, Any]) -> bool:
        """Whether the fields of a record's config are these, but for the label. Fields that came later have defaults.

        Two configs that meet in one identity, as after a change of a default that ``FIRST_DEFAULTS`` does not know,
        are told apart here.
        """
        return {**_defaults(), **recorded, "arm": self.arm} == self.to_dict()


@lru_cache(maxsize=1)
def _defaults() -> dict[str, Any]:
    return {**RunConfig().to_dict(), **FIRST_DEFAULTS}
