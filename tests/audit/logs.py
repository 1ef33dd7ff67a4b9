"""A made-up run that follows the law, and the same run in every format that trainers write."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

A, B = 0.25, 0.70


def run(
    *,
    steps: int = 400,
    every: int = 10,
    left: float = 0.01,
    tau: float = 60.0,
    noise: float = 0.004,
    seed: int = 1,
) -> pd.DataFrame:
    """Entropy that decays from 0.6 + left to left nats, and R = 0.70 - 0.25 e^H with noise."""
    step = np.arange(0, steps + 1, every, dtype=float)
    entropy = 0.6 * np.exp(-step / tau) + left
    score = B - A * np.exp(entropy) + np.random.default_rng(seed).normal(0, noise, step.size)
    return pd.DataFrame({"step": step, "entropy": entropy, "reward": score})


def rows(table: pd.DataFrame, **names: str) -> list[dict[str, float]]:
    """The rows with columns renamed."""
    return table.rename(columns=names).to_dict("records")


def write_csv(path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(path / "log.csv", index=False)
    return path / "log.csv"


def write_semicolons(path: Path, table: pd.DataFrame) -> Path:
    text = table.to_csv(index=False, sep=";", decimal=",", lineterminator="\r\n")
    (path / "log.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    return path / "log.csv"


def write_utf16(path: Path, table: pd.DataFrame) -> Path:
    (path / "log.tsv").write_text("# made up\n" + table.to_csv(index=False, sep="\t"), encoding="utf-16")
    return path / "log.tsv"


def write_jsonl(path: Path, table: pd.DataFrame) -> Path:
    (path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(table)))
    return path / "log.jsonl"


def write_json(path: Path, table: pd.DataFrame) -> Path:
    (path / "log.json").write_text(json.dumps(rows(table), indent=1))
    return path / "log.json"


def write_wandb_json(path: Path, table: pd.DataFrame) -> Path:
    named = table.rename(columns={"step": "_step", "entropy": "train/entropy", "reward": "train/reward"})
    named.to_json(path / "history.json")
    return path / "history.json"


def write_wandb_csv(path: Path, table: pd.DataFrame) -> Path:
    named = pd.DataFrame({"Step": table["step"]})
    for column in ("entropy", "reward"):
        for end in ("", "__MIN", "__MAX"):
            named[f"lucky-sun-3 - train/{column}{end}"] = table[column]
    named.to_csv(path / "wandb.csv", index=False)
    return path / "wandb.csv"


def write_parquet(path: Path, table: pd.DataFrame) -> Path:
    table.to_parquet(path / "log.parquet")
    return path / "log.parquet"


def write_state(path: Path, table: pd.DataFrame) -> Path:
    history = [row | {"frac_reward_zero_std": 0.25, "loss": 0.1} for row in rows(table)]
    folder = path / "out" / "checkpoint-400"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": 400, "log_history": history}))
    return path / "out"


def write_verl(path: Path, table: pd.DataFrame) -> Path:
    lines = []
    for row in rows(table):
        data = {"actor/entropy": row["entropy"], "critic/score/mean": row["reward"], "response_length/clip_ratio": 0.2}
        lines.append(json.dumps({"step": int(row["step"]), "data": data}))
    (path / "verl.jsonl").write_text("\n".join(lines) + "\n")
    return path / "verl.jsonl"


def write_verl_nested(path: Path, table: pd.DataFrame) -> Path:
    lines = [
        {
            "step": row["step"],
            "data": {"actor": {"entropy": row["entropy"]}, "critic": {"score": {"mean": row["reward"]}}},
        }
        for row in rows(table)
    ]
    (path / "verl.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path / "verl.jsonl"


def write_trackio(path: Path, table: pd.DataFrame) -> Path:
    connection = sqlite3.connect(path / "project.db")
    connection.execute("CREATE TABLE metrics (id INTEGER PRIMARY KEY, run_name TEXT, step INTEGER, metrics TEXT)")
    for count, row in enumerate(rows(table, entropy="train/entropy", reward="train/reward", step="train/global_step")):
        values = ("run-1", count, json.dumps(row))
        connection.execute("INSERT INTO metrics (run_name, step, metrics) VALUES (?, ?, ?)", values)
    connection.commit()
    connection.close()
    return path / "project.db"


def write_inbox(path: Path, table: pd.DataFrame) -> Path:
    writer = path / "inbox" / "0123"
    writer.mkdir(parents=True)
    for number, part in enumerate(np.array_split(table.index.to_numpy(), 3)):
        named = rows(table.iloc[part], entropy="train/entropy", reward="train/reward", step="train/global_step")
        lines = [{"v": 1, "kind": "metric", "run": "run-1", "step": i, "metrics": row} for i, row in enumerate(named)]
        (writer / f"{number:08d}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path / "inbox"


def write_events(path: Path, table: pd.DataFrame) -> Path:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(path / "events")) as writer:
        for row in rows(table):
            writer.add_scalar("train/entropy", row["entropy"], int(row["step"]))
            writer.add_scalar("train/reward", row["reward"], int(row["step"]))
            writer.add_text("note", "not a number", int(row["step"]))
    return path / "events"


def write_record(path: Path, table: pd.DataFrame) -> Path:
    folder = path / "grpo-seed0"
    folder.mkdir()
    # Metrics of row s are measured before its update, at s - 1 updates.
    entropy = pd.DataFrame({"step": table["step"] + 1, "entropy/response_mean": table["entropy"]})
    entropy.assign(**{"entropy/token_mean": 1.0, "reward": 0.5}).to_parquet(folder / "metrics.parquet")
    scores = pd.DataFrame({"step": table["step"], "accuracy/mean": table["reward"]})
    scores.to_parquet(folder / "evaluations.parquet")
    return folder


WRITERS: dict[str, Callable[[Path, pd.DataFrame], Path]] = {
    name.removeprefix("write_"): function for name, function in list(globals().items()) if name.startswith("write_")
}
