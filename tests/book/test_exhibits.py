"""The exhibits' data: scripts that hold what the records do, and nothing where a run is missing."""

import json

import numpy as np
import pytest

from repro.book import exhibits


def parts(runs) -> dict[str, object]:
    scripts = exhibits.data(runs)
    return {
        name.removesuffix(".js"): json.loads(text.removeprefix(f"Exhibits.data.{name[:-3]} = ").removesuffix(";\n"))
        for name, text in scripts.items()
    }


def test_without_runs_only_the_policy_is_there():
    assert parts([]) == {"policy": exhibits.POLICY}


def test_points_of_the_law_are_evaluations_with_the_entropy_at_their_step(make_run):
    found = parts([make_run(seed, arm="grpo", steps_per_generation=1) for seed in (2, 0, 1)])
    assert list(found["runs"]) == ["grpo-0", "grpo-1"]
    points = found["runs"]["grpo-0"]["points"]
    assert [point["step"] for point in points] == list(range(0, 241, 10))
    assert points[1]["entropy"] == pytest.approx(0.02 + 0.5 * np.exp(-14 * 10 / 240), abs=1e-5)
    assert points[1]["reward"] == pytest.approx(0.8 - 0.45 * np.exp(-14 * 10 / 240), abs=1e-5)


def test_curves_are_means_over_seeds_at_the_steps_that_all_have(make_run):
    level = {"grpo": 0.2, "rloo": 0.4}
    runs = [
        make_run(
            seed, accuracy=lambda x, seed=seed, arm=arm: 0 * x + level[arm] + 0.1 * seed, arm=arm, eval_steps=every
        )
        for arm, every in (("grpo", 20), ("rloo", 30))
        for seed in (0, 1)
    ]
    found = parts(runs)["curves"]
    assert list(found) == ["algorithms"]
    assert found["algorithms"]["steps"] == [0, 60, 120, 180, 240]
    first, second = found["algorithms"]["arms"]
    assert (first["title"], second["title"]) == ("GRPO", "RLOO") and first["colour"] != second["colour"]
    assert first["accuracy"] == pytest.approx([0.25] * 5) and second["accuracy"] == pytest.approx([0.45] * 5)
