"""Profiles: which runs make up the study at one scale, read from ``configs/profiles/<name>.yaml``.

The file's keys are ``description``, ``base``, ``seeds``, ``run`` (fields of every run) and ``arms`` (for each method
the fields that set it apart). The file's name is the profile's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from repro.errors import ConfigError
from repro.paths import configs_dir
from repro.runs.config import RunConfig

KEYS = {"description": str, "base": str, "seeds": list, "arms": dict, "run": dict}
WORDS = {str: "text", list: "a list", dict: "a mapping", int: "an integer of at least 0"}
# Said once, in the profile or as an arm's name, and not again in `run` or an arm.
SET_BY_PROFILE = ("base", "seed", "arm")


@dataclass(frozen=True)
class Profile:
    """A named set of runs: every arm with every seed."""

    name: str
    description: str
    base: str
    seeds: tuple[int, ...]
    arms: Mapping[str, Mapping[str, Any]]
    run: Mapping[str, Any]
    source: Path

    def configs(self, arm: str, seeds: Sequence[int] | None = None) -> list[RunConfig]:
        """Configs of one arm, one per seed; ``seeds`` in place of the profile's where given.

        Raises:
            ConfigError: for an unknown arm, or a field or value that a run cannot have.
        """
        if arm not in self.arms:
            raise ConfigError(f"arm {arm!r} is not in profile {self.name!r}; its arms are {', '.join(self.arms)}")
        values = {**self.run, **self.arms[arm], "base": self.base, "arm": arm}
        # Both may set fields of the trainer; the arm's stand beside those of all runs.
        trainer = [part.get("trainer", {}) for part in (self.run, self.arms[arm])]
        if any(trainer) and all(isinstance(part, Mapping) for part in trainer):
            values["trainer"] = {**trainer[0], **trainer[1]}
        source = f"{self.source} (arm {arm})"
        return [
            RunConfig.from_dict({**values, "seed": seed}, source=source)
            for seed in (self.seeds if seeds is None else seeds)
        ]

    def all_configs(self) -> list[RunConfig]:
        """Configs of all arms and seeds, in the order of the file."""
        return [config for arm in self.arms for config in self.configs(arm)]


def profile_names() -> list[str]:
    """Names of the profiles there are."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def load_profile(name: str) -> Profile:
    """Read and check a profile, the configs of its runs included.

    Raises:
        ConfigError: for an unknown profile, naming the known ones; for an unknown or missing key; for a value of the
            wrong type or out of range, naming file, key and value.
    """
    if name not in profile_names():
        raise ConfigError(f"profile {name!r} is unknown; the profiles are {', '.join(profile_names())}")
    source = _folder() / f"{name}.yaml"
    try:
        values = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: holds {type(values).__name__}, but must map {', '.join(KEYS)} to values")
    _check(source, values)
    profile = Profile(
        name=name,
        description=values["description"].strip(),
        base=values["base"],
        seeds=tuple(values["seeds"]),
        arms={arm: overrides or {} for arm, overrides in values["arms"].items()},
        run=values.get("run") or {},
        source=source,
    )
    profile.all_configs()
    return profile


def _folder() -> Path:
    return configs_dir() / "profiles"


def _check(source: Path, values: dict[str, Any]) -> None:
    for key in values:
        if key not in KEYS:
            raise ConfigError(f"{source}: key {key!r} is unknown; the keys are {', '.join(KEYS)}")
    for key, kind in KEYS.items():
        if key not in values and key != "run":
            raise ConfigError(f"{source}: key {key!r} is missing")
        if key in values:
            _check_type(source, key, values[key], kind, optional=key == "run")
    if not values["seeds"]:
        raise ConfigError(f"{source}: seeds is empty; give at least one")
    for seed in values["seeds"]:
        _check_type(source, "seeds", seed, int)
        if seed < 0:
            raise ConfigError(f"{source}: seeds has {seed}; it must be {WORDS[int]}")
    if len(set(values["seeds"])) < len(values["seeds"]):
        raise ConfigError(f"{source}: seeds={values['seeds']} names a seed twice")
    if not values["arms"]:
        raise ConfigError(f"{source}: arms is empty; give at least one")
    for arm, overrides in values["arms"].items():
        _check_type(source, "arms", arm, str)
        _check_type(source, f"arms.{arm}", overrides, dict, optional=True)
    for key, overrides in [("run", values.get("run")), *((f"arms.{arm}", one) for arm, one in values["arms"].items())]:
        for name in overrides or {}:
            if name in SET_BY_PROFILE:
                raise ConfigError(f"{source}: {key}.{name} is set elsewhere: by base, seeds and the names of the arms")


def _check_type(source: Path, key: str, value: Any, kind: type, *, optional: bool = False) -> None:
    if type(value) is not kind and not (optional and value is None):
        found = f"{key}={value!r} ({type(value).__name__})"
        raise ConfigError(f"{source}: {found} is not allowed; it must be {WORDS[kind]}")
