"""What an optimizer step costs in ``CovGRPOTrainer`` against TRL's ``GRPOTrainer`` on the same config.

All trainers live in one process and take turns step by step, so that whatever else the machine does meets them alike.
Policies do not move (learning rate 0) and completions have one length, so the work is the same. A step is all that a
trainer does from one ``on_step_begin`` to the next: generation, losses, backward, optimizer, logging at every step.
Before anything is timed, the trainer with its methods off must give the parent's losses and weights bit for bit.

    python benchmarks/trainer.py [--size m] [--sequences 512] [--length 16] [--updates 4] [--rounds 20] [--record]

Prints a table, and with ``--record`` appends it to ``benchmarks/results/trainer.csv``. ``overhead`` is the median over
rounds of a trainer's seconds for all updates of one rollout over stock TRL's in the same round, minus 1, with the 95 %
interval of a bootstrap over rounds; ``cpu_overhead`` is the same of the CPU time of the thread (no GPU).
"""

import argparse
import csv
import datetime
import importlib.metadata
import platform
import subprocess
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer

from repro.policies.family import make_model, make_tokenizer, non_embedding_parameters
from repro.tasks import get_task
from repro.trainer import CovGRPOConfig, CovGRPOTrainer

RECORD = Path(__file__).parent / "results" / "trainer.csv"
ARMS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "stock": (GRPOTrainer, GRPOConfig, {}),
    "none": (CovGRPOTrainer, CovGRPOConfig, {}),
    "clip_cov": (CovGRPOTrainer, CovGRPOConfig, {"entropy_control": "clip_cov", "clip_cov_low": 0.0}),
    "kl_cov": (CovGRPOTrainer, CovGRPOConfig, {"entropy_control": "kl_cov"}),
    "kl_cov step": (CovGRPOTrainer, CovGRPOConfig, {"entropy_control": "kl_cov", "entropy_control_scope": "step"}),
}


class Turns(TrainerCallback):
    """Lets trainers in threads take turns of one optimizer step and times each turn."""

    def __init__(self, order: list[str], device: torch.device) -> None:
        self.order, self.device = order, device
        self.condition, self.active = threading.Condition(), order[0]
        self.begun: dict[str, tuple[float, float]] = {}
        self.seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in order}

    def now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.thread_time()

    def on_step_begin(self, args, state, control, **kwargs):
        name = threading.current_thread().name
        if name in self.begun:
            end = self.now()
            self.seconds[name].append(tuple(b - a for a, b in zip(self.begun.pop(name), end, strict=True)))
            self.pass_on(name)
        with self.condition:
            self.condition.wait_for(lambda: self.active == name)
        self.begun[name] = self.now()

    def on_train_end(self, args, state, control, **kwargs):
        self.pass_on(threading.current_thread().name)

    def pass_on(self, name: str) -> None:
        with self.condition:
            self.active = self.order[(self.order.index(name) + 1) % len(self.order)]
            self.condition.notify_all()


def settings(options: argparse.Namespace, folder: str, steps: int) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "per_device_train_batch_size": options.sequences // options.updates,
        "steps_per_generation": options.updates,
        "num_generations": 8,
        "max_completion_length": options.length,
        "generation_kwargs": {"min_new_tokens": options.length},
        "max_steps": steps,
        "learning_rate": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "bf16": False,
        "dataloader_pin_memory": False,
    }


def reward(completions: list[str], **_: object) -> list[float]:
    return [float(text.count("7") > 0) for text in completions]


def make(arm: str, options: argparse.Namespace, steps: int, callbacks: list[TrainerCallback], **overrides: Any):
    cls, config, more = ARMS[arm]
    tokenizer = make_tokenizer(get_task("arithmetic"))
    torch.manual_seed(0)
    model = make_model(options.size, tokenizer)
    prompts = [f"{n % 10}+{n // 10 % 10}-{n // 100 % 10}*{n // 1000 % 10}:" for n in range(10_000)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = cls(
            model=model,
            reward_funcs=reward,
            args=config(**(settings(options, folder, steps) | more | overrides)),
            train_dataset=Dataset.from_dict({"prompt": prompts}),
            processing_class=tokenizer,
            callbacks=callbacks,
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def check(options: argparse.Namespace) -> None:
    """Off equals parent, bit for bit, on this device and these shapes.

    Raises:
        SystemExit: where it does not; nothing is timed then.
    """
    losses, weights = [], []
    for arm in ("stock", "none"):
        trainer = make(arm, options, options.updates, [], learning_rate=1e-3)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        weights.append([parameter.detach().clone() for parameter in trainer.model.parameters()])
    if losses[0] != losses[1] or not all(map(torch.equal, *weights)):
        raise SystemExit(f"with its methods off the trainer differs from its parent: {losses}; nothing was timed")


def measure(options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Seconds by the clock and of CPU per arm, round and update, ``[rounds, updates, 2]``, without the first round."""
    steps = options.updates * (options.rounds + 1) + 1
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    turns = Turns(list(ARMS), device)
    trainers = {arm: make(arm, options, steps, [turns]) for arm in ARMS}
    threads = [threading.Thread(target=trainer.train, name=arm) for arm, trainer in trainers.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        arm: np.array(values).reshape(options.rounds + 1, options.updates, 2)[1:]
        for arm, values in turns.seconds.items()
    }


def interval(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """95 % interval of the median, by a bootstrap over rounds."""
    draws = np.median(rng.choice(values, (10_000, len(values))), axis=1)
    return tuple(np.quantile(draws, [0.025, 0.975]))


def rows(options: argparse.Namespace, measured: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True).stdout.strip()
    dirty = subprocess.run(["git", "status", "--porcelain", "src"], capture_output=True, text=True).stdout
    cuda = torch.cuda.is_available()
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    common = {
        "utc": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": commit + ("+" if dirty else ""),
        "device": torch.cuda.get_device_name() if cuda else cpu,
        "threads": torch.get_num_threads(),
        **{name: importlib.metadata.version(name) for name in ("torch", "trl", "transformers")},
        "parameters": non_embedding_parameters(make_model(options.size, make_tokenizer(get_task("arithmetic")))),
        "sequences": options.sequences,
        "length": options.length,
        "updates": options.updates,
        "rounds": options.rounds,
    }
    rng, table = np.random.default_rng(0), []
    for arm, seconds in measured.items():
        p20, p50, p80 = np.quantile(seconds[..., 0], [0.2, 0.5, 0.8])
        row = {"arm": arm, "seconds_p20": p20, "seconds_p50": p50, "seconds_p80": p80}
        for column, name in enumerate(("overhead", "cpu_overhead")):
            ratio = seconds[..., column].sum(1) / measured["stock"][..., column].sum(1) - 1
            row[name] = np.median(ratio)
            row[f"{name}_low"], row[f"{name}_high"] = interval(ratio, rng)
        table.append(common | {key: f"{v:.5f}" if isinstance(v, float) else v for key, v in row.items()})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="m", help="of the policy, in the embedded family")
    parser.add_argument("--sequences", type=int, default=512, help="per rollout")
    parser.add_argument("--length", type=int, default=16, help="tokens of every completion")
    parser.add_argument("--updates", type=int, default=4, help="optimizer steps per rollout")
    parser.add_argument("--rounds", type=int, default=20, help="rollouts timed per trainer")
    parser.add_argument("--record", action="store_true", help="append to the CSV of record")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    check(options)
    table = rows(options, measure(options))
    for row in table:
        print(
            f"{row['arm']:12} {float(row['seconds_p50']) * 1e3:9.2f} ms  overhead {float(row['overhead']):+7.2%} "
            f"[{float(row['overhead_low']):+.2%}, {float(row['overhead_high']):+.2%}]  CPU time "
            f"{float(row['cpu_overhead']):+7.2%} [{float(row['cpu_overhead_low']):+.2%}, "
            f"{float(row['cpu_overhead_high']):+.2%}]"
        )
    if options.record:
        new = not RECORD.exists()
        with RECORD.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=table[0])
            if new:
                writer.writeheader()
            writer.writerows(table)


if __name__ == "__main__":
    main()
