"""What a measure is: a function that the ledger may name.

A measure is a plain function of runs. What the ledger calls `arms` are its positional parameters, in that order, and
what it calls `arguments` are its keyword-only parameters, annotated as float, int or str; a parameter with a default
may be left out. The decorator says how it is called:

- `per_seed`: once for each seed that all arms have, with that seed's run of each arm; it returns one number.
- `pooled`: once, with all runs of each arm (none for `arms: []`); it returns an `Interval`.

Both raise `NoEffect`, saying what was missing, where there is nothing to measure. The modules of
`repro.claims.measures` register theirs when `repro.claims` is imported.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from repro.analysis.intervals import Interval

ARGUMENT_TYPES = (float, int, str)


@dataclass(frozen=True)
class Measure:
    """A function that the ledger may name; `pooled` says how it is called."""

    function: Callable[..., Any]
    pooled: bool

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def arms(self) -> int | None:
        """How many arms it takes; None for any number."""
        kinds = [one.kind for one in inspect.signature(self.function).parameters.values()]
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            return None
        return sum(kind is not inspect.Parameter.KEYWORD_ONLY for kind in kinds)

    @property
    def arguments(self) -> Mapping[str, inspect.Parameter]:
        """Its keyword-only parameters by name."""
        parameters = inspect.signature(self.function).parameters
        return {name: one for name, one in parameters.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}


MEASURES: dict[str, Measure] = {}


def _register(function: Callable[..., Any], *, pooled: bool) -> None:
    measure = Measure(function, pooled)
    if measure.name in MEASURES:
        raise ValueError(f"there are two measures called {measure.name}; rename one")
    for name, parameter in measure.arguments.items():
        if parameter.annotation not in ARGUMENT_TYPES:
            raise TypeError(
                f"measure {measure.name}: argument {name} is annotated {parameter.annotation!r}; the ledger can give "
                "float, int or str"
            )
    MEASURES[measure.name] = measure


def per_seed(function: Callable[..., float]) -> Callable[..., float]:
    """Register a measure that is called once per seed, with that seed's run of each arm."""
    _register(function, pooled=False)
    return function


def pooled(function: Callable[..., Interval]) -> Callable[..., Interval]:
    """Register a measure that is called once, with all runs of each arm, and returns an `Interval`."""
    _register(function, pooled=True)
    return function
