"""Profiles: which runs make up the study at one scale.

``configs/arms.yaml`` has the study's arms in groups: what each method changes, and for a group the fields (``run``)
that its arms share. ``configs/profiles/<name>.yaml`` has the scale. Its keys are ``description``, ``base``, ``seeds``,
``run`` (fields of every run) and ``groups``: those that the profile has, each with ``seeds`` and ``run`` of its own
where they differ. The file's name is the profile's.

Where one field is given in several places the more particular one holds: the profile's ``run``, then the group's in
``arms.yaml``, the group's in the profile, the arm's. Beside the fields of a run there are ``rollouts`` and
``eval_rollouts``, which say in rollouts what ``steps`` and ``eval_every`` say in optimizer steps, so that arms with
different numbers of updates can see as many rollouts.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from repro.errors import ConfigError
from repro.paths import configs_dir
from repro.runs.config import RunConfig

KEYS = {"description": str, "base": str, "seeds": list, "groups": dict, "run": dict}
GROUP_KEYS = {"seeds": list, "run": dict}
ARM_GROUP_KEYS = {"run": dict, "arms": dict}
WORDS = {str: "text", list: "a list", dict: "a mapping", int: "an integer"}
IN_ROLLOUTS = {"rollouts": "steps", "eval_rollouts": "eval_every"}
MANY = 12
# Said once, in `seeds` or as an arm's name, and not again among a run's fields.
SET_ELSEWHERE = ("seed", "arm")


@dataclass(frozen=True)
class Arm:
    """One method of a profile: its group, its seeds and the fields of its runs."""

    group: str
    seeds: tuple[int, ...]
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Profile:
    """A named set of runs: every arm with each of its seeds."""

    name: str
    description: str
    base: str
    arms: Mapping[str, Arm]
    source: Path

    def configs(self, arm: str, seeds: Sequence[int] | None = None) -> list[RunConfig]:
        """Configs of one arm, one per seed; ``seeds`` in place of the profile's where given.

        Raises:
            ConfigError: for an unknown arm, or a field or value that a run cannot have.
        """
        if arm not in self.arms:
            raise ConfigError(f"arm {arm!r} is not in profile {self.name!r}; {_known(arm, list(self.arms))}")
        one = self.arms[arm]
        source = f"{self.source} (arm {arm})"
        return [
            RunConfig.from_dict(_in_steps({**one.fields, "arm": arm, "seed": seed}, source), source=source)
            for seed in (one.seeds if seeds is None else seeds)
        ]

    def all_configs(self) -> list[RunConfig]:
        """Configs of all arms and seeds, in the order of ``arms.yaml``."""
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
    values = _read(source, KEYS, optional=("run",))
    groups = _arm_groups(configs_dir() / "arms.yaml")
    arms = {}
    for group in values["groups"]:
        if group not in groups:
            raise ConfigError(f"{source}: group {group!r} is not in arms.yaml; its groups are {', '.join(groups)}")
    _check_seeds(source, "seeds", values["seeds"])
    for group, (shared, members) in groups.items():
        if group not in values["groups"]:
            continue
        where = f"groups.{group}"
        _check_type(source, where, values["groups"][group], dict, optional=True)
        own = values["groups"][group] or {}
        _check_keys(source, where, own, GROUP_KEYS, optional=tuple(GROUP_KEYS))
        seeds = own.get("seeds", values["seeds"])
        _check_seeds(source, f"{where}.seeds", seeds)
        layers = [values.get("run") or {}, shared, own.get("run") or {}]
        for arm, fields in members.items():
            arms[arm] = Arm(group, tuple(seeds), _joined(source, [{"base": values["base"]}, *layers, fields]))
    profile = Profile(name, values["description"].strip(), values["base"], arms, source)
    profile.all_configs()
    return profile


def _known(arm: str, arms: Sequence[str]) -> str:
    """The arms there are; of many, the nearest."""
    if len(arms) <= MANY:
        return f"its arms are {', '.join(arms)}"
    near = difflib.get_close_matches(arm, arms)
    return f"the nearest are {', '.join(near) or 'none'}, and configs/arms.yaml has all {len(arms)}"


def _folder() -> Path:
    return configs_dir() / "profiles"


def _read(source: Path, keys: Mapping[str, type] | None = None, optional: Sequence[str] = ()) -> dict[str, Any]:
    try:
        values = yaml.safe_load(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        what = ", ".join(keys) if keys else "names of groups"
        raise ConfigError(f"{source}: holds {type(values).__name__}, but must map {what} to values")
    if keys:
        _check_keys(source, "", values, keys, optional)
    return values


def _arm_groups(source: Path) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]]:
    """Fields that a group's arms share, and each arm's own, by group."""
    groups: dict[str, tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]] = {}
    seen: set[str] = set()
    for group, values in _read(source).items():
        _check_type(source, group, values, dict)
        _check_keys(source, group, values, ARM_GROUP_KEYS, optional=("run",))
        for arm, fields in values["arms"].items():
            _check_type(source, f"{group}.arms", arm, str)
            _check_type(source, f"{group}.arms.{arm}", fields, dict)
            if arm in seen:
                raise ConfigError(f"{source}: arm {arm!r} is there twice; the second is in group {group!r}")
            seen.add(arm)
        groups[group] = values.get("run") or {}, values["arms"]
    return groups


def _joined(source: Path, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Fields of a run, later layers over earlier ones; fields of the trainer are joined one by one."""
    joined: dict[str, Any] = {}
    for layer in layers:
        for name in SET_ELSEWHERE:
            if name in layer:
                raise ConfigError(f"{source}: {name}={layer[name]!r} among a run's fields is set elsewhere: remove it")
        trainer = [part.get("trainer") for part in (joined, layer)]
        joined.update(layer)
        if all(isinstance(part, Mapping) for part in trainer):
            joined["trainer"] = {**trainer[0], **trainer[1]}
        for name, field in IN_ROLLOUTS.items():
            # The later of the two ways to say one thing holds; rollouts take the place of steps when they are turned.
            if field in layer:
                joined.pop(name, None)
    return joined


def _in_steps(fields: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Fields of a run with rollouts turned into optimizer steps."""
    converted = dict(fields)
    updates = converted.get("updates_per_rollout", RunConfig.updates_per_rollout)
    for name, field in IN_ROLLOUTS.items():
        if name in converted:
            count = converted.pop(name)
            if type(count) is not int or count < 1:
                raise ConfigError(f"{source}: {name}={count!r} is not allowed; it must be an integer of at least 1")
            converted[field] = count * updates if type(updates) is int else count
    return converted


def _check_keys(
    source: Path, where: str, values: Mapping[str, Any], keys: Mapping[str, type], optional: Sequence[str]
) -> None:
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in keys:
            raise ConfigError(f"{source}: key {prefix + str(key)!r} is unknown; the keys are {', '.join(keys)}")
    for key, kind in keys.items():
        if key not in values and key not in optional:
            raise ConfigError(f"{source}: key {prefix + key!r} is missing")
        if key in values:
            _check_type(source, prefix + key, values[key], kind, optional=key in optional)


def _check_seeds(source: Path, key: str, seeds: list[Any]) -> None:
    if not seeds:
        raise ConfigError(f"{source}: {key} is empty; give at least one")
    for seed in seeds:
        _check_type(source, key, seed, int)
        if seed < 0:
            raise ConfigError(f"{source}: {key} has {seed}; it must be an integer of at least 0")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{source}: {key}={seeds} names a seed twice")


def _check_type(source: Path, key: str, value: Any, kind: type, *, optional: bool = False) -> None:
    if type(value) is not kind and not (optional and value is None):
        found = f"{key}={value!r} ({type(value).__name__})"
        raise ConfigError(f"{source}: {found} is not allowed; it must be {WORDS[kind]}")
