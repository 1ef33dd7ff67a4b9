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
EARLY, MINIMUM = 0.05, 0.05
_WINDOW = 1 / 24


def _row(what: str, paper: str, measure: Callable[[Run], float], unit: str) -> tuple[str, str, Callable, str]:
    return what, paper, measure, unit


def _rows(window: float) -> list[tuple[str, str, Callable[[Run], float], str]]:
    """What is compared: words, the paper's value at 7B and where it stands, a measure of a run, a unit."""

    def gain(decoding: str) -> Callable[[Run], float]:
        return lambda run: gain_share(run, fraction=EARLY, window=_WINDOW, minimum=MINIMUM, decoding=decoding)

    tops = [
        _row(
            f"Mean covariance of the top {100 * fraction:g} % of tokens, step 1",
            f"{TABLE_1[fraction]:g} (Table 1)",
            lambda run, fraction=fraction: top_mean(run, fraction),
            "",
        )
        for fraction in (0.0002, 0.002, 0.02)
    ]
    return [
        _row(
            "Tokens of a response, first",
            "640 (Fig. 11)",
            lambda run: level_at(run, "length", 0, window),
            "",
        ),
        _row("Tokens of a response, last", "1020 (Fig. 11)", lambda run: end_level(run, "length", window), ""),
        _row("Responses cut by the limit, last", "not printed", lambda run: end_level(run, "truncated", window), "share"),
        _row("Entropy, first", "0.55 nat (Fig. 1)", lambda run: level_at(run, "entropy", 0, window), "nat"),
        _row("Entropy left, last", "3.3 % (Fig. 11)", lambda run: entropy_left(run, window=window), "share"),
        _row("Accuracy, first", "21 % (Fig. 1)", lambda run: level_at(run, "accuracy", 0, window), "share"),
        _row("Accuracy, last", "38 % (Fig. 11)", lambda run: end_level(run, "accuracy", window), "share"),
        _row("The same, greedy, first", "not printed", lambda run: level_at(run, "greedy_accuracy", 0, window), "share"),
        _row("The same, greedy, last", "not printed", lambda run: end_level(run, "greedy_accuracy", window), "share"),
        _row("pass@64 after training", "not printed", lambda run: pass_at(run, 64), "share"),
        _row(f"Gain that is there after {100 * EARLY:g} %", "76 % after 8 % (Fig. 2)", gain("sampled"), "share"),
        _row("The same, greedy", "not printed", gain("greedy"), "share"),
        *tops,
        _row("Groups without spread, trained on", "filtered", lambda run: end_level(run, "no_spread", window), "share"),
    ]


def _measured(measure: Callable[[Run], float], runs: Sequence[Run], unit: str) -> str:
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
    window = load_ledger().argument("search_fixes", "window")
    rows = [
        (what, paper, *(_measured(measure, members, unit) for members in worlds.values()))
        for what, paper, measure, unit in _rows(window)
    ]
    counts = ", ".join(
        f"{world}: {len(members)} seeds on {len({run.config.base for run in members})} base policies"
        for world, members in worlds.items()
    )
    header = ("Plain GRPO, 8 updates a rollout", "Paper, 7B", *worlds)
    note = f"\nMeans over seeds with 95 % intervals ({counts}). First: before training; last: the last 1/8 of it.\n"
    return fragments.list_table(header, rows, "facts") + note
