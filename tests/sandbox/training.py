"""Stands in for repro.runs.training in a copy of the repository: instant, deterministic, and it can be made to hang.

``$REPRO_TEST_DIR/started`` gets a line per training. While ``$REPRO_TEST_DIR/hang-<seed>`` exists, a run of that seed
stops in its middle and leaves its process id in ``$REPRO_TEST_DIR/process-<seed>``.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

LEVEL = 0.9


@dataclass(frozen=True)
class Trained:
    metrics: pd.DataFrame
    evaluations: pd.DataFrame
    tokens: pd.DataFrame
    probe: pd.DataFrame
    answers: pd.DataFrame
    timing: dict[str, float]
    threads: int


def train(config, *, on_step=None, options=None, checkpoints=None):
    folder = Path(os.environ["REPRO_TEST_DIR"])
    with (folder / "started").open("a") as file:
        file.write(f"{config.seed}\n")
    steps = np.arange(1, config.max_steps + 1)
    entropy = LEVEL * np.exp(-steps / (5 + config.seed))
    for step in steps:
        if step == config.max_steps // 2 and (folder / f"hang-{config.seed}").exists():
            (folder / f"process-{config.seed}").write_text(str(os.getpid()))
            while (folder / f"hang-{config.seed}").exists():
                time.sleep(0.05)
        if on_step is not None:
            on_step(int(step), config.max_steps, float(entropy[step - 1]), None)
    at = np.arange(0, config.max_steps + 1, config.eval_steps)
    accuracy = 0.3 + 0.4 * (1 - np.exp(-at / (5 + config.seed)))
    return Trained(
        pd.DataFrame({"step": steps, "entropy/response_mean": entropy, "entropy/token_mean": entropy}),
        pd.DataFrame({"step": at, "accuracy/mean": accuracy, "accuracy/greedy": accuracy, "k": 8}),
        pd.DataFrame({"step": [1, 1], "sequence": [0, 0], "position": [0, 1], "token": ["=", "7"]}),
        pd.DataFrame(),
        pd.DataFrame(),
        {"generation": 2.0, "scoring": 1.0, "update": 4.0, "other": 1.0, "evaluation": 1.0, "generated_tokens": 800},
        1,
    )
