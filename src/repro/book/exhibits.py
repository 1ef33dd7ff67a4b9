"""Data for the book's exhibits, from recorded runs: small scripts that `book/_extra/exhibits/*.js` read.

Scripts and not JSON, because a page opened from a folder may not read files. `runs` has the points of the law of some
runs (step, entropy, score), `rollout` the tokens of one recorded step, `curves` the methods' mean curves over seeds.
Entropies in nats per token, scores as fractions.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from repro.analysis import tabular
from repro.book import looks
from repro.claims.curves import curve
from repro.runs import Run

# A policy whose best action is not its likeliest, so that pushing it first raises entropy and then spends it.
POLICY = {"actions": list("ABCDE"), "logits": [2, 1, 0.5, 0, -1], "rewards": [0.4, 1, 0, 0.2, 0.8], "step": 0.5}
LAW_ARMS = ("grpo", "rloo", "reinforce_pp", "prime")
CURVES = {
    "fixes": (
        "The fixes and their baselines",
        ("grpo8", "clip_higher", "clip_two", "clip_cov", "unclipped", "kl_cov", "grpo8_slow"),
    ),
    "algorithms": ("Four algorithms", LAW_ARMS),
}
ROLLOUT_ARM = "kl_cov"
RESPONSES = 48
DIGITS = 5


def data(runs: Sequence[Run]) -> dict[str, str]:
    """The exhibits' scripts by file name; those whose runs are not there are left out."""
    arms: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.config.seed):
        arms.setdefault(run.config.arm, []).append(run)
    parts = {"policy": POLICY, "runs": law_points(arms), "rollout": rollout(arms), "curves": curves(arms)}
    texts = {name: json.dumps(part, separators=(",", ":"), allow_nan=False) for name, part in parts.items() if part}
    return {f"{name}.js": f"Exhibits.data.{name} = {text};\n" for name, text in texts.items()}


def policy_picture() -> Figure:
    """What the policy exhibit starts with: probabilities, and each action's share of the next entropy change."""
    logits, rewards = np.array(POLICY["logits"], float), np.array(POLICY["rewards"])
    log_pi, pi = tabular.log_policy(logits), np.exp(tabular.log_policy(logits))
    delta = POLICY["step"] * pi * (rewards - pi @ rewards)
    shares = -pi * (log_pi - pi @ log_pi) * (delta - pi @ delta)
    figure = Figure(figsize=(5, 4), layout="constrained")
    for axes, values, label in zip(
        figure.subplots(2, 1), (pi, shares), ("probability", "share of the entropy change (nat)"), strict=True
    ):
        axes.bar(POLICY["actions"], values)
        axes.set_ylabel(label)
        axes.axhline(0, color="black", linewidth=0.8)
    return figure


def law_points(arms: dict[str, list[Run]]) -> dict[str, Any]:
    """Points of the first two seeds of each algorithm: the entropy of the rollout at each evaluation, and its score."""
    found = {}
    for arm in LAW_ARMS:
        for run in arms.get(arm, [])[:2]:
            entropy, accuracy = curve(run, "entropy"), curve(run, "accuracy")
            at = np.interp(accuracy["step"], entropy["step"], entropy["entropy"])
            rows = zip(accuracy["step"], at, accuracy["accuracy"], strict=True)
            points = [{"step": int(step), "entropy": _short(h), "reward": _short(r)} for step, h, r in rows]
            found[f"{arm}-{run.config.seed}"] = {
                "title": f"{looks.name(arm)}, seed {run.config.seed}",
                "points": points,
            }
    return found


def rollout(arms: dict[str, list[Run]]) -> dict[str, Any]:
    """The first recorded tokens of one run: a list of responses, each a list of tokens."""
    for run in arms.get(ROLLOUT_ARM, [])[:1]:
        tokens = run.tokens[run.tokens["step"] == run.tokens["step"].min()]
        columns = ["token", "position", "log_prob", "advantage", "entropy"]
        responses = [
            [
                {"text": text, "position": int(place), "entropy": _short(h)}
                | {"logProb": _short(p), "advantage": _short(a)}
                for text, place, p, a, h in part[columns].itertuples(index=False)
            ]
            for _, part in tokens.groupby("sequence")
        ]
        return {"run": run.name, "responses": responses[:RESPONSES]}
    return {}


def curves(arms: dict[str, list[Run]]) -> dict[str, Any]:
    """Means over seeds at each evaluation that all arms of a group have."""
    found = {}
    for name, (title, members) in CURVES.items():
        present = [arm for arm in members if arm in arms]
        if not present:
            continue
        common = set.intersection(*(set(run.evaluations["step"]) for arm in present for run in arms[arm]))
        steps = np.array(sorted(common))
        found[name] = {
            "title": title,
            "steps": steps.tolist(),
            "arms": [
                {
                    "title": looks.name(arm),
                    "colour": looks.look(arm).css,
                    "entropy": _mean(arms[arm], steps, "entropy"),
                    "accuracy": _mean(arms[arm], steps, "accuracy"),
                }
                for arm in present
            ],
        }
    return found


def _mean(runs: Sequence[Run], steps: np.ndarray, quantity: str) -> list[float]:
    tables = [curve(run, quantity) for run in runs]
    values = [np.interp(steps, table["step"], table[quantity]) for table in tables]
    return [_short(value) for value in np.mean(values, axis=0)]


def _short(value: float) -> float:
    return round(float(value), DIGITS)
