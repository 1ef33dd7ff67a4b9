"""Benchmarks on the CPU, in about four minutes: `python -m benchmarks.run [--threads 2] [--output CSV]`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from benchmarks import generation, tokens, vocabulary
from benchmarks.harness import RESULTS, ceilings, measure, record

TOKENS = (2**16, 2**20, 2**24)
HEADS = ((128, 896, 32768), (512, 896, 32768), (512, 256, 65536))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="threads that torch may use (default 2)")
    parser.add_argument("--output", type=Path, default=RESULTS / "cpu.csv", help="CSV of the operators to append to")
    parser.add_argument(
        "--generation-output", type=Path, default=RESULTS / "generation.csv", help="CSV of sampling to append to"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device("cpu")
    limits = ceilings(device, torch.float32)
    with record(arguments.output, device) as write, torch.no_grad():
        for count in TOKENS:
            for comparison in tokens.comparisons(count, device):
                for row in measure(comparison, device, limits, rounds=21, budget=4.0):
                    write(row)
        for shape in HEADS:
            for comparison in vocabulary.comparisons(*shape, device, torch.float32):
                for row in measure(comparison, device, limits, rounds=7, budget=8.0):
                    write(row)
    generation.run(arguments.generation_output)


if __name__ == "__main__":
    main()
