"""The table of the regime: what the paper's runs and each testbed's plain GRPO have, side by side."""

from collections.abc import Callable, Sequence

from repro.book import fragments
from repro.claims import NoEffect, spell_seeds
from repro.claims.curves import end_level, level_at
from repro.claims.measures.collapse import entropy_left, gain_share
from repro.claims.measures.covariance import TABLE_1, top_mean
from repro.claims.measures.fixes import pass_at
from repro.claims.reading import load_ledger
from repro.runs import Run

WORLDS = {"Chained arithmetic": "grpo8", "Countdown": "search_grpo8"}
_EARLY = {"fraction": 0.05, "window": 1 / 24, "minimum": 0.05}
_NOT = "not printed"

Measure = Callable[[Run], float]


def _rows(window: float) -> list[tuple[str, str, Measure, str]]:
    """What is compared: words, the paper's value at 7B and where it stands, a measure of a run, a unit."""

    def first(quantity: str) -> Measure:
        return lambda run: level_at(run, quantity, 0, window)

    def last(quantity: str) -> Measure:
        return lambda run: end_level(run, quantity, window)

    def gain(decoding: str) -> Measure:
        return lambda run: gain_share(run, **_EARLY, decoding=decoding)

    def top(fraction: float) -> tuple[str, str, Measure, str]:
        what = f"Mean covariance of the top {100 * fraction:g} % of tokens, step 1"
        return what, f"{TABLE_1[fraction]:g} (Table 1)", lambda run: top_mean(run, fraction), ""

    return [
        ("Tokens of a response, first", "640 (Fig. 11)", first("length"), ""),
        ("Tokens of a response, last", "1020 (Fig. 11)", last("length"), ""),
        ("Responses cut by the limit, last", _NOT, last("truncated"), "share"),
        ("Entropy, first", "0.55 nat (Fig. 1)", first("entropy"), "nat"),
        ("Entropy left, last", "3.3 % (Fig. 11)", lambda run: entropy_left(run, window=window), "share"),
        ("Accuracy, first", "21 % (Fig. 1)", first("accuracy"), "share"),
        ("Accuracy, last", "38 % (Fig. 11)", last("accuracy"), "share"),
        ("The same, greedy, first", _NOT, first("greedy_accuracy"), "share"),
        ("The same, greedy, last", _NOT, last("greedy_accuracy"), "share"),
        ("pass@64 after training", _NOT, lambda run: pass_at(run, 64), "share"),
        ("Gain that is there after 5 %", "76 % after 8 % (Fig. 2)", gain("sampled"), "share"),
        ("The same, greedy", _NOT, gain("greedy"), "share"),
        *map(top, (0.0002, 0.002, 0.02)),
        ("Groups without spread, trained on", "filtered", last("no_spread"), "share"),
    ]


def _measured(measure: Measure, runs: Sequence[Run], unit: str) -> str:
    values = []
    for run in runs:
        try:
            values.append(measure(run))
        except NoEffect:
            continue
    return spell_seeds(values, unit)


def table(runs: Sequence[Run]) -> str:
    """The table as MyST, of the testbeds that this copy has runs of; nothing where there is none."""
    worlds = {world: [run for run in runs if run.config.arm == arm] for world, arm in WORLDS.items()}
    worlds = {world: members for world, members in worlds.items() if members}
    if not worlds:
        return ""
    rows = [
        (what, paper, *(_measured(measure, members, unit) for members in worlds.values()))
        for what, paper, measure, unit in _rows(load_ledger().argument("search_fixes", "window"))
    ]
    counts = ", ".join(
        f"{world}: {len(members)} seeds on {len({run.config.base for run in members})} base policies"
        for world, members in worlds.items()
    )
    header = ("Plain GRPO, 8 updates a rollout", "Paper, 7B", *worlds)
    note = f"\nMeans over seeds with 95 % intervals ({counts}). First: before training; last: the last 1/8 of it.\n"
    return fragments.list_table(header, rows, "facts") + note
