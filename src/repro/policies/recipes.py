"""The recipes of base policies. Importing this module is light."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class BaseRecipe:
    """Everything that decides a base policy's weights."""

    size: str
    task: str = "arithmetic"
    mixture: str = "standard"
    clean_steps: int = 4000
    mixture_steps: int = 400
    batch_size: int = 128
    learning_rate: float = 2e-3
    seed: int = 0


_COUNTDOWN = BaseRecipe("sm3", task="countdown", clean_steps=2500, mixture_steps=350, learning_rate=1.33e-3)

# The learning rate times the width is constant up to m; the larger ones were not tuned.
RECIPES = {
    "xs": BaseRecipe("xs", learning_rate=4e-3),
    "s": BaseRecipe("s"),
    "sm": BaseRecipe("sm", learning_rate=1.33e-3),
    "m": BaseRecipe("m", learning_rate=1e-3),
    "l": BaseRecipe("l", learning_rate=5e-4),
    "xl": BaseRecipe("xl", learning_rate=3e-4),
    "explore": BaseRecipe("s", mixture="explore"),
    "single": BaseRecipe("s", mixture="single"),
    **{f"countdown_{seed}": replace(_COUNTDOWN, seed=seed) for seed in range(3)},
}

SHIPPED = ("xs", "s", "sm", "m", "explore", "single", "countdown_0", "countdown_1", "countdown_2")
"""The bases that the profiles need and that come with the repository."""


def remedy(name: str) -> str:
    """What to do about a base policy that is not there or not what it should be."""
    if name in RECIPES:
        return f"`python -m repro bases {name}` makes it"
    return f"no recipe makes it, the recipes are {', '.join(RECIPES)}: correct the name, or put its files there"
