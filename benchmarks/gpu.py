"""Tests and benchmarks on CUDA, in under nine minutes: `python -m benchmarks.gpu [--output CSV] [--no-tests]`.

First the kernels' tests run on the GPU (results, synchronisation, CUDA graphs, torch.compile); then every method is
checked against its reference at the sizes of the benchmark, timed, and appended to the CSV of record.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks import tokens, vocabulary
from benchmarks.harness import RESULTS, ROOT, ceilings, measure, record
from repro.ops.triton import vocabulary as kernels

TOKENS = (2**16, 2**20, 2**24)
HEADS = tuple((rows, *head) for head in ((896, 151936), (3584, 152064)) for rows in (512, 2048, 8192))
# Tiles of logits to try at the largest size, beside the shipped one: rows and columns.
TILES = ((8192, 4096), (8192, 16384), (4096, 8192), (2048, 2048))
SECONDS = 540.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu.csv", help="CSV to append to")
    parser.add_argument("--no-tests", action="store_true", help="only benchmark; its own checks still run")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(f"error: torch {torch.__version__} sees no CUDA device: run this on a GPU, or `make bench` on the CPU")
    started = time.monotonic()
    # The heads' products are in bf16 with float32 accumulation; float32 ones, in the checks, are not to be rounded.
    torch.set_float32_matmul_precision("highest")
    if not arguments.no_tests:
        environment = {**os.environ, "TRITON_DEFAULT_FP_FUSION": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests"]
        if subprocess.run(command, cwd=ROOT, env=environment).returncode:
            sys.exit("error: the tests on the GPU failed, so nothing was timed: mend them, or see --no-tests")
    device = torch.device("cuda")
    limits = ceilings(device, torch.bfloat16)
    print(f"copy {limits[0] / 1e12:.2f} TB/s, bf16 product {limits[1] / 1e12:.0f} TFLOP/s", flush=True)
    with record(arguments.output, device) as write, torch.no_grad():
        for count in TOKENS:
            for comparison in tokens.comparisons(count, device):
                for row in measure(comparison, device, limits, rounds=30, budget=6.0):
                    write(row)
        for shape in HEADS:
            for comparison in vocabulary.comparisons(*shape, device, torch.bfloat16):
                for row in measure(comparison, device, limits, rounds=20, budget=8.0):
                    write(row)
            torch.cuda.empty_cache()
        shipped = kernels.ROWS, kernels.COLUMNS
        for kernels.ROWS, kernels.COLUMNS in TILES:
            if time.monotonic() - started > SECONDS - 60:
                print("out of time: the remaining tile sizes were not tried", flush=True)
                break
            for comparison in vocabulary.comparisons(*HEADS[-1], device, torch.bfloat16, with_peers=False):
                for row in measure(comparison, device, limits, rounds=10, budget=4.0):
                    write(row | {"method": f"{row['method']}, tile {kernels.ROWS} x {kernels.COLUMNS}"})
        kernels.ROWS, kernels.COLUMNS = shipped
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
