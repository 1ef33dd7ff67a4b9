"""One visual language: a method has one name, one colour and one marker, in every figure, exhibit and table.

Hues are seaborn's palette for colour-blind readers, each with a lighter twin for dark pages; plain GRPO, which the
others are held against, has the ink of the text. A marker and a line tell apart what colour does not, in print too.
"""

from collections.abc import Iterable
from dataclasses import dataclass

# By name: on a light page, on a dark one.
HUES = {
    "blue": ("#0173b2", "#56b4e9"),
    "orange": ("#de8f05", "#f2a93b"),
    "green": ("#029e73", "#2bc39a"),
    "vermilion": ("#d55e00", "#ff8f4d"),
    "pink": ("#cc78bc", "#e39ad6"),
    "brown": ("#ca9161", "#d9ab84"),
    "sky": ("#56b4e9", "#9bd3f5"),
    "grey": ("#949494", "#b0b0b0"),
}
INK = "#333333"


@dataclass(frozen=True)
class Look:
    """How a method is written and drawn: its name, a hue (None for the ink), matplotlib's marker and line."""

    title: str
    hue: str | None
    marker: str
    line: str = "-"

    @property
    def colour(self) -> str:
        """As matplotlib takes it, on a light page."""
        return HUES[self.hue][0] if self.hue else INK

    @property
    def css(self) -> str:
        """As a style sheet takes it, in the page's theme."""
        return f"var(--hue-{self.hue})" if self.hue else "var(--drawing-ink)"

    @property
    def mark(self) -> dict[str, str]:
        """Colour and marker, as matplotlib's keywords."""
        return {"color": self.colour, "marker": self.marker}


METHODS = {
    "grpo": Look("GRPO", None, "o"),
    "clip_higher": Look("Clip-higher", "orange", "s", "--"),
    "clip_cov": Look("Clip-Cov", "green", "^", "-."),
    "kl_cov": Look("KL-Cov", "blue", "D"),
    "unclipped": Look("GRPO, no clip", "vermilion", "v", ":"),
    "clip_two": Look("GRPO, clip [0, 2]", "brown", "<", ":"),
    "grpo8_slow": Look("GRPO, half the rate", "grey", "P", "--"),
    "bonus": Look("Entropy bonus", "pink", "P", "--"),
    "reference": Look("Reference KL", "brown", "X", "-."),
    "rloo": Look("RLOO", "sky", "s", "--"),
    "reinforce_pp": Look("REINFORCE++", "pink", "^", "-."),
    "prime": Look("PRIME", "brown", "D", ":"),
}
# Arms with a name of their own; those of one method at another setting are named by `_name`.
NAMES = {
    "grpo8": "GRPO",
    "easy": "GRPO, easy levels",
    "hard": "GRPO, hard levels",
    "size_xs": "GRPO, size xs",
    "size_sm": "GRPO, size sm",
    "size_m": "GRPO, size m",
    "probe": "GRPO, on-policy",
    "rate_1e5": "GRPO, learning rate 1e-5",
    "rate_5e5": "GRPO, learning rate 5e-5",
    "rate_1e3": "GRPO, learning rate 1e-3",
    "bonus_1e4": "Entropy bonus 0.0001",
    "bonus_1e3": "Entropy bonus 0.001",
    "bonus_5e3": "Entropy bonus 0.005",
    "bonus_1e2": "Entropy bonus 0.01",
    "bonus_1e1": "Entropy bonus 0.1",
    "ref_001": "Reference KL 0.001",
    "ref_01": "Reference KL 0.01",
    "ref_05": "Reference KL 0.05",
    "ref_1": "Reference KL 0.1",
    "kl_cov_coef_005": "KL-Cov, weight 0.05",
    "kl_cov_coef_01": "KL-Cov, weight 0.1",
    "kl_cov_coef_05": "KL-Cov, weight 0.5",
    "kl_cov_fraction_002": "KL-Cov, 0.2 % of tokens",
    "kl_cov_fraction_05": "KL-Cov, 5 % of tokens",
    "clip_cov_fraction_0002": "Clip-Cov, 0.02 % of tokens",
    "clip_cov_fraction_02": "Clip-Cov, 2 % of tokens",
    "kl_cov_wide": "KL-Cov, wide",
    "clip_cov_wide": "Clip-Cov, wide",
    "select_covariance": "Largest covariance",
    "select_covariance_fiftieth": "Largest covariance, a fiftieth",
    "select_covariance_tenth": "Largest covariance, a tenth",
    "select_random": "Random",
    "fresh_covariance": "Largest covariance, fresh",
    "fresh_random": "Random, fresh",
    "fresh_draw": "Clip-Cov's draw, fresh",
    "select_random_tenth": "Random, a tenth",
    "select_random_positive": "Random, right answers",
    "select_rare": "Rarest, wrong answers",
    "select_entropy": "Highest entropy",
    "select_steer": "STEER's score",
    "kl_cov_clip_20": "KL-Cov, clip 0.2",
    "kl_cov_clip_28": "KL-Cov, clip 0.2 and 0.28",
    "kl_cov_clip_two": "KL-Cov, clip [0, 2]",
    "scope_micro_4": "KL-Cov, top of 16 sequences",
    "scope_micro_16": "KL-Cov, top of 4 sequences",
    "random_symmetric": "Random rewards",
    "kl_target_10": "KL-Cov held at 0.1 nat",
    "kl_target_20": "KL-Cov held at 0.2 nat",
    "kl_target_30": "KL-Cov held at 0.3 nat",
    "bonus_target_10": "Entropy bonus held at 0.1 nat",
    "bonus_target_20": "Entropy bonus held at 0.2 nat",
    "bonus_target_30": "Entropy bonus held at 0.3 nat",
}
# What the front and the back of an arm's label stand for.
_WORLDS = {"explore_": "something to explore", "single_": "a single strategy", "search_": "Countdown"}
_SETTINGS = {
    "_u1": "1 update a rollout",
    "_u2": "2 updates a rollout",
    "_u4": "4 updates a rollout",
    "_long": "trained longer",
    "_warm": "sampled at T = 1",
    "_hot": "rollouts at T = 1.2",
}


def name(arm: str) -> str:
    """An arm's name for readers: 'KL-Cov, 2 updates a rollout' for `kl_cov_u2`; the label of an arm unknown here."""
    if arm in NAMES:
        return NAMES[arm]
    if arm in METHODS:
        return METHODS[arm].title
    for label, words in _WORLDS.items():
        if arm.startswith(label):
            return f"{name(arm.removeprefix(label))}, {words}"
    for label, words in _SETTINGS.items():
        if arm.endswith(label):
            return f"{name(arm.removesuffix(label))}, {words}"
    return arm


def look(arm: str) -> Look:
    """How an arm's method is drawn; an arm of no method is plain GRPO's."""
    for world in _WORLDS:
        arm = arm.removeprefix(world)
    if arm.startswith("ref_"):
        return METHODS["reference"]
    if arm.startswith(("tokens_", "scope_", "kl_target")):
        return METHODS["kl_cov"]
    known = sorted((method for method in METHODS if arm.startswith(method)), key=len)
    return METHODS[known[-1]] if known else METHODS["grpo"]


def names(arms: Iterable[str]) -> str:
    """Several arms' names, each once."""
    return ", ".join(dict.fromkeys(map(name, arms)))


def sheet() -> str:
    """The hues as variables of a style sheet; print has the light ones."""
    light = "".join(f"  --hue-{hue}: {on_light};\n" for hue, (on_light, _) in HUES.items())
    dark = "".join(f"  --hue-{hue}: {on_dark};\n" for hue, (_, on_dark) in HUES.items())
    light += "  --drawing-ink: #000000;\n  --drawing-paper: #ffffff;\n"
    dark += "  --drawing-ink: #ffffff;\n  --drawing-paper: #121212;\n"
    return f':root {{\n{light}}}\n@media screen {{\nhtml[data-theme="dark"] {{\n{dark}}}\n}}\n'
