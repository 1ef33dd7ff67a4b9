"""Estimates of memory and time against measurements: `python -m benchmarks.estimate [--quick]`.

Each case trains a model of random weights for one or two rollouts, by the code of a run, in a process of its own with
one thread. Measured are the growth of the peak of resident memory over what the process had before the model was
loaded, and processor time, because a busy machine's clock says little. glibc is told to give every freed tensor back,
so that resident memory is memory in use. A rate in FLOP/s is needed for a time: each case's is the median of the
others', so no case predicts itself; the seconds a logit were fitted to the cases together.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

from benchmarks.harness import RESULTS, ROOT, provenance
from repro.runs.estimate import LOGIT_SECONDS

COLUMNS = (
    *("time", "commit", "device", "torch", "case", "parameters", "tokens", "worst", "memory_mib", "estimated_mib"),
    *("memory_error", "update_cpu_s", "sampling_cpu_s", "update_gflop", "sampling_gflop"),
    *("update_mlogit", "sampling_mlogit", "cpu_s", "estimated_s"),
    "time_error",
)
OUTPUT = RESULTS / "estimate.csv"


@dataclass(frozen=True)
class Case:
    """A model and the batches that it is trained with."""

    name: str
    hidden: int
    layers: int
    mlp: int
    heads: int
    kv_heads: int
    vocabulary: int
    prompts: int
    completion: int
    tied: bool = False
    lora: int = 0
    checkpointed: bool = False
    micro_batches: int = 2
    rollouts: int = 1


CASES = (
    Case("small", 256, 6, 1024, 8, 8, 4096, 4, 64),
    Case("wide", 512, 4, 2048, 8, 8, 8192, 2, 96),
    Case("long, checkpointed", 512, 4, 1408, 8, 4, 8192, 4, 160, checkpointed=True),
    Case("adapters", 512, 8, 1408, 8, 4, 8192, 4, 96, lora=16),
    Case("tied, grouped keys", 768, 4, 2048, 12, 4, 16384, 2, 64, tied=True),
    Case("large vocabulary", 256, 4, 1024, 8, 8, 32768, 4, 96),
    Case("many tokens", 384, 6, 1024, 6, 6, 4096, 8, 128),
    Case("many completions", 256, 8, 768, 8, 8, 4096, 24, 128, micro_batches=24, rollouts=2),
)


def main() -> None:
    """Measure every case, print the table and append it to the CSV of record."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--quick", action="store_true", help="one small case, and nothing is recorded")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measured(next(case for case in CASES if case.name == arguments.case))))
        return
    found = [in_its_own_process(case) for case in (CASES[:1] if arguments.quick else CASES)]
    rows = with_times(found)
    for row in rows:
        print(", ".join(f"{name} {row[name]}" for name in COLUMNS[4:]), flush=True)
    if not arguments.quick:
        record(rows)


def in_its_own_process(case: Case) -> dict[str, object]:
    """What `measured` gives, from a new process with one thread whose freed tensors leave memory."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "0",
    }
    command = [sys.executable, "-m", "benchmarks.estimate", "--case", case.name]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"case {case.name} failed: {done.stderr[-2000:]}")
    row = json.loads(done.stdout.splitlines()[-1])
    print(row, file=sys.stderr, flush=True)
    return row


def measured(case: Case) -> dict[str, object]:
    """Memory and processor time of a case in this process, beside the estimate of memory and the work."""
    import torch
    import trl  # noqa: F401 - what is imported before the baseline is not the run's memory

    from repro import pins
    from repro.policies.shapes import shape_of
    from repro.runs import stopwatch
    from repro.runs.estimate import Batch, memory, work
    from repro.runs.training import train
    from repro.tasks import get_task

    with tempfile.TemporaryDirectory(prefix="repro-estimate-") as folder:
        os.environ["REPRO_BUILD"] = folder
        prompt = longest_prompt(get_task("arithmetic"), case.prompts)
        save(case, Path(folder) / "model")
        pins.pin(str(Path(folder) / "model"))
        config = config_of(case)
        warm = replace(case, rollouts=1, prompts=1, completion=2, micro_batches=2)
        small = Path(folder) / "warm" / "warm"
        save(replace(warm, hidden=32, layers=1, mlp=32, heads=2, kv_heads=2, vocabulary=64), small)
        pins.pin(str(small))
        # What the first run of any size costs a process, in imports and compiled code, is not a model's.
        train(config_of(warm).replace(base="local:warm"))
        stopwatch.time = SimpleNamespace(perf_counter=time.process_time)
        before = resident()
        Path("/proc/self/clear_refs").write_text("5")
        trained = train(config)
        grown = peak() - before
        shape = shape_of(config.base)
        rollout = config.prompts_per_rollout * config.num_generations
        batch = Batch(rollout // config.steps_per_generation, rollout, prompt, config.max_completion_length)
        needed, done = memory(config, shape, "cpu", batch), work(config, shape, batch)
    timing = trained.timing
    return {
        "torch": torch.__version__,
        "case": case.name,
        "parameters": shape.parameters,
        "tokens": batch.sequences * batch.length,
        "worst": needed.worst,
        "memory_mib": round(grown / 2**20),
        "estimated_mib": round(needed.peak / 2**20),
        "update_cpu_s": round(timing["update"] + timing["scoring"], 2),
        "sampling_cpu_s": round(timing["generation"] + timing["evaluation"], 2),
        "update_gflop": round(done.update / 1e9, 1),
        "sampling_gflop": round(done.sampling / 1e9, 1),
        "update_mlogit": round(done.update_logits / 1e6, 1),
        "sampling_mlogit": round(done.sampling_logits / 1e6, 1),
    }


def config_of(case: Case):
    """The run of a case: the reward is tossed, and evaluations are as small as they can be."""
    from repro.runs import RunConfig

    return RunConfig(
        base="local:model",
        policy={"lora": {"r": case.lora}} if case.lora else {},
        reward="random",
        max_steps=case.rollouts * case.micro_batches,
        prompts_per_rollout=case.prompts,
        num_generations=8,
        steps_per_generation=case.micro_batches,
        max_completion_length=case.completion,
        eval_steps=1000,
        eval_prompts=1,
        eval_samples=1,
        eval_samples_last=1,
        trainer={"activation_checkpointing": case.checkpointed},
    )


def longest_prompt(task, prompts: int) -> int:
    """Tokens of the longest prompt."""
    return max(len(prompt) for prompt in task.dataset("train", 0, prompts)["prompt"])


def save(case: Case, folder: Path) -> None:
    """A model of random weights that reads the arithmetic task."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from repro.policies.family import make_tokenizer
    from repro.tasks import get_task

    tokenizer = make_tokenizer(get_task("arithmetic"))
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=case.vocabulary,
            hidden_size=case.hidden,
            intermediate_size=case.mlp,
            num_hidden_layers=case.layers,
            num_attention_heads=case.heads,
            num_key_value_heads=case.kv_heads,
            max_position_embeddings=1024,
            tie_word_embeddings=case.tied,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def resident() -> int:
    """Bytes of resident memory now."""
    return _status("VmRSS")


def peak() -> int:
    """The most bytes of resident memory since it was reset."""
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def with_times(found: list[dict[str, object]]) -> list[dict[str, object]]:
    """Rows with time by the median rates of the other cases, and errors as measured over estimated less 1."""
    rows = []
    for place, row in enumerate(found):
        others = found[:place] + found[place + 1 :] or found
        spent, expected = row["update_cpu_s"] + row["sampling_cpu_s"], 0.0
        for part, seconds in LOGIT_SECONDS.items():
            rate = statistics.median(
                one[f"{part}_gflop"] / (one[f"{part}_cpu_s"] - 1e6 * seconds * one[f"{part}_mlogit"]) for one in others
            )
            expected += row[f"{part}_gflop"] / rate + 1e6 * seconds * row[f"{part}_mlogit"]
        rows.append(
            row
            | {"memory_error": f"{row['memory_mib'] / row['estimated_mib'] - 1:+.3f}"}
            | {"cpu_s": round(spent, 2), "estimated_s": round(expected, 2)}
            | {"time_error": f"{spent / expected - 1:+.3f}"}
        )
    return rows


def record(rows: list[dict[str, object]]) -> None:
    """Append rows to the CSV of record."""
    import torch

    made = {name: value for name, value in provenance(torch.device("cpu")).items() if name in COLUMNS}
    new = not OUTPUT.exists()
    with OUTPUT.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(made | row for row in rows)


if __name__ == "__main__":
    main()
