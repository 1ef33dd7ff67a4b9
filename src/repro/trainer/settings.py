"""Fields of a config that carry their documentation and, in their type, the rule for what they may be."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cache
from numbers import Integral, Real
from typing import Any, get_type_hints

from repro.errors import ConfigError


@dataclass(frozen=True)
class Rule:
    """What a value may be: its type, a test of it, and both in words that follow "pass"."""

    kind: type
    holds: Callable[[Any], bool]
    allowed: str
    optional: bool = False

    def check(self, name: str, value: Any) -> None:
        """Raise a ConfigError that names field, value and remedy unless the rule allows the value."""
        if value is None and self.optional:
            return
        if isinstance(value, str) and self.kind is not str:
            yaml = " (YAML reads 1e-6 as text and 1.0e-6 as a number)" if _is_number(value) else ""
            raise ConfigError(f"{name}={value!r} is text: pass {self.allowed}, without quotes{yaml}")
        known = isinstance(value, self.kind) and (self.kind is bool or not isinstance(value, bool))
        if not known or not self.holds(value):
            raise ConfigError(f"{name}={value!r}: pass {self.allowed}")


def number(low: float = -math.inf, *, above: bool = False, high: float = math.inf, **more: Any) -> Rule:
    """A finite number of at least (``above``: more than) ``low`` and at most ``high``; ``infinite=True``: inf too."""
    infinite = more.pop("infinite", False)
    words = "a number" if low == -math.inf else f"a number above {low:g}" if above else f"a number, {low:g} or more"
    words = f"a number between {low:g} and {high:g}" if high < math.inf else words

    def holds(value: Any) -> bool:
        return (value > low or (value == low and not above)) and value <= high and (infinite or math.isfinite(value))

    return Rule(Real, holds, words + ", or None" * more.get("optional", False), **more)


def whole(low: int) -> Rule:
    """A whole number of at least ``low``."""
    return Rule(Integral, lambda value: value >= low, f"a whole number, {low} or more")


def flag() -> Rule:
    """True or False."""
    return Rule(bool, lambda value: True, "True or False")


class Choice:
    """One of some names, looked up when a value is checked: a registry may grow."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = names

    def check(self, name: str, value: Any) -> None:
        """Raise a ConfigError that lists the names unless the value is one."""
        if not isinstance(value, str) or value not in self.names:
            raise ConfigError(f"{name}={value!r} is unknown: choose one of {', '.join(self.names)}")


def setting(default: Any, help: str) -> Any:
    """A field of a config: its default and its documentation (argparse's, hence ``%%``)."""
    return field(default=default, metadata={"help": help.replace("%", "%%")})


@cache
def rules(config: type) -> dict[str, Rule | Choice]:
    """The rules of a dataclass's fields, by name: ``coef: Annotated[float, number(0)]``."""
    hints = get_type_hints(config, include_extras=True)
    found = {name: getattr(hint, "__metadata__", (None,))[0] for name, hint in hints.items()}
    return {name: rule for name, rule in found.items() if isinstance(rule, Rule | Choice)}


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
