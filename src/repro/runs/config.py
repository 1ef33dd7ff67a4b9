"""The config of a run: everything that changes its result, and the identity that follows from it."""

import hashlib
import json
import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from repro.errors import BaseError, ConfigError
from repro.paths import bases_dir

Scalar = bool | int | float | str | None

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]*")
ADVANTAGE_SCALES = ("group", "batch", "none")
REWARDS = ("accuracy", "random")


class Rule(NamedTuple):
    """What a field may be: its type, a test of the value and the words for both."""

    type: type
    holds: Callable[[Any], bool]
    allowed: str
    optional: bool = False


def _at_least(low: int) -> Rule:
    return Rule(int, lambda value: value >= low, f"an integer of at least {low}")


def _positive(*, optional: bool = False) -> Rule:
    return Rule(float, lambda value: value > 0, "a number above 0" + " or null" * optional, optional)


def _one_of(allowed: tuple[str, ...]) -> Rule:
    return Rule(str, allowed.__contains__, f"one of {', '.join(allowed)}")


def _label() -> Rule:
    return Rule(str, lambda value: bool(LABEL.fullmatch(value)), "a name of letters, digits, '_' and '.'")


RULES = {
    "base": _label(),
    "task": _label(),
    "seed": _at_least(0),
    "arm": _label(),
    "steps": _at_least(1),
    "prompts_per_rollout": _at_least(1),
    "num_generations": _at_least(2),
    "reward": _one_of(REWARDS),
    "updates_per_rollout": _at_least(1),
    "micro_batches": _at_least(1),
    "learning_rate": _positive(),
    "epsilon": _positive(optional=True),
    "epsilon_high": _positive(optional=True),
    "temperature": _positive(),
    "max_completion_length": _at_least(1),
    "advantage_scale": _one_of(ADVANTAGE_SCALES),
    "eval_every": _at_least(1),
    "eval_prompts": _at_least(1),
    "eval_samples": _at_least(1),
    "eval_samples_last": _at_least(1),
    "eval_temperature": _positive(),
    "probe_every": _at_least(0),
}


@dataclass(frozen=True)
class RunConfig:
    """One run. Every field changes the result, and every value is checked on construction.

    Steps are optimizer steps. A rollout samples ``prompts_per_rollout * num_generations`` completions, which
    ``updates_per_rollout`` optimizer steps of ``micro_batches`` each share equally. ``trainer`` holds further fields of
    ``CovGRPOConfig``.

    Raises:
        ConfigError: naming the field, the value and what is allowed.
    """

    base: str = "s"
    """Name of the base policy under ``bases/``."""
    task: str = "arithmetic"
    seed: int = 0
    arm: str = "grpo"
    """Label of the method, for people; the method itself is in the other fields."""
    steps: int = 960
    prompts_per_rollout: int = 64
    num_generations: int = 8
    """Samples a prompt: the paper's K (section 2.2)."""
    reward: str = "accuracy"
    """1 for a correct completion and 0 for any other; or ``random``: 1 or 0 by the toss of a coin."""
    updates_per_rollout: int = 4
    micro_batches: int = 1
    """Micro-batches of an optimizer step, over which its gradient accumulates."""
    learning_rate: float = 2e-4
    epsilon: float | None = 0.2
    """PPO clip range below 1, and above it too unless ``epsilon_high`` is set (section 2.2); null for no clip."""
    epsilon_high: float | None = None
    temperature: float = 1.0
    max_completion_length: int = 16
    """Tokens."""
    advantage_scale: str = "group"
    """Rewards are divided by the standard deviation of the group (the paper's Eq. 3), of the batch, or not at all."""
    eval_every: int = 20
    """Optimizer steps between evaluations on the fixed validation set; step 0 and the last one are always evaluated."""
    eval_prompts: int = 256
    eval_samples: int = 8
    """Completions a validation prompt: the k of mean@k and pass@k."""
    eval_samples_last: int = 64
    """The same for the evaluation after the last step."""
    eval_temperature: float = 1.0
    probe_every: int = 0
    """Optimizer steps between measurements of a step's effect on the entropy of its own states; 0 for none."""
    trainer: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, rule in RULES.items():
            object.__setattr__(self, name, _checked(name, getattr(self, name), rule))
        object.__setattr__(self, "trainer", _checked_trainer(self.trainer))
        completions = self.prompts_per_rollout * self.num_generations
        if completions % (self.updates_per_rollout * self.micro_batches):
            raise ConfigError(
                f"updates_per_rollout={self.updates_per_rollout} times micro_batches={self.micro_batches} does not "
                f"divide the {completions} completions of a rollout (prompts_per_rollout={self.prompts_per_rollout} "
                f"times num_generations={self.num_generations}); choose a divisor"
            )

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
        prefix = f"{source}: " if source else ""
        known = [entry.name for entry in fields(cls)]
        for name in values:
            if name not in known:
                raise ConfigError(f"{prefix}{name!r} is no field of a run; the fields are {', '.join(known)}")
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(f"{prefix}{error}") from None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, in the order of their definition."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {**values, "trainer": dict(self.trainer)}

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, so that equal configs give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def base_sha256(self) -> str:
        """SHA-256 of the base policy's weights.

        Raises:
            BaseError: when the base policy is not there.
        """
        path = bases_dir() / self.base / "model.safetensors"
        try:
            stat = path.stat()
        except OSError:
            from repro.policies.base import remedy  # it imports torch, which takes seconds

            present = sorted(folder.parent.name for folder in bases_dir().glob("*/model.safetensors"))
            raise BaseError(
                f"base policy {self.base!r} is missing: there is no {path}; "
                f"present are {', '.join(present) or 'none'}; {remedy(self.base)}"
            ) from None
        return _sha256(path, stat.st_size, stat.st_mtime_ns)

    @property
    def identity(self) -> str:
        """12 hexadecimal digits that differ whenever a field or the base policy's weights differ."""
        return hashlib.sha256(f"{self.to_json()}\n{self.base_sha256}".encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """Readable and unique: arm, base, seed and identity."""
        return f"{self.arm}-{self.base}-seed{self.seed}-{self.identity}"


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, modified_ns: int) -> str:
    """Hash of a file; size and time of change are in the signature so that a changed file is hashed again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked(name: str, value: Any, rule: Rule) -> Any:
    """The value in the field's own type (1 becomes 1.0 for a float, so that both have one identity)."""
    if value is None and rule.optional:
        return None
    if rule.type is float and type(value) is int:
        value = float(value)
    finite = not isinstance(value, float) or math.isfinite(value)
    if type(value) is not rule.type or not finite or not rule.holds(value):
        raise ConfigError(f"{name}={value!r} ({type(value).__name__}) is not allowed; it must be {rule.allowed}")
    return value


def _checked_trainer(values: Any) -> Mapping[str, Scalar]:
    """A read-only copy sorted by name."""
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"trainer={values!r} ({type(values).__name__}) is not allowed; it must map field names of CovGRPOConfig "
            "to values"
        )
    for name, value in values.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ConfigError(f"trainer: {name!r} is not a field name of CovGRPOConfig")
        infinite = type(value) is float and not math.isfinite(value)
        if type(value) not in (bool, int, float, str, type(None)) or infinite:
            raise ConfigError(
                f"trainer.{name}={value!r} ({type(value).__name__}) is not allowed; it must be a finite number, a "
                "string, true, false or null"
            )
    return types.MappingProxyType({name: values[name] for name in sorted(values)})
