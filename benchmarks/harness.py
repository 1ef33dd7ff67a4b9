"""Timing, memory, provenance and the CSV of record.

Methods that are compared run interleaved, one call of each per round, so that a machine that slows down slows all of
them. A method's result is checked before anything is timed: no number is recorded for a wrong result.
"""

from __future__ import annotations

import csv
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
# What a number depends on: where one of these has changes, the row says so.
SOURCES = ("src/repro/ops", "src/repro/losses.py", "src/repro/policies", "benchmarks/*.py")
COLUMNS = (
    *("time", "commit", "device", "threads", "torch", "triton", "trl", "cuda"),
    *("benchmark", "size", "dtype", "method", "runs", "p20_ms", "p50_ms", "p80_ms"),
    *("peak_mib", "moved_gb_s", "of_copy", "tflop_s", "of_matmul"),
)


@dataclass(frozen=True)
class Method:
    """One way to compute something: `check` raises AssertionError unless the result of `run` is right.

    `moved` and `flops` are the bytes and floating-point operations that one call needs by its own algorithm.
    """

    name: str
    run: Callable[[], Any]
    check: Callable[[Any], None]
    moved: float | None = None
    flops: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Methods that compute the same thing from the same inputs."""

    benchmark: str
    size: str
    dtype: str
    methods: tuple[Method, ...]


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """One call's time, from an idle device to an idle device."""
    if device.type != "cuda":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    torch.cuda.synchronize()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int:
    """Largest amount of memory that torch held during a call beyond what it held before it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def ceilings(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Measured bytes per second of a large copy (read and written), and FLOP/s of a large product in `dtype`."""
    elements, width = (2**28, 8192) if device.type == "cuda" else (2**25, 2048)
    source = torch.zeros(elements, device=device)
    target = torch.empty_like(source)
    a = torch.randn(width, width, device=device).to(dtype)
    copy = min(seconds(lambda: target.copy_(source), device) for _ in range(10))
    product = min(seconds(lambda: a @ a, device) for _ in range(10))
    return 2 * source.nbytes / copy, 2 * width**3 / product


def quantile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def measure(
    comparison: Comparison, device: torch.device, limits: tuple[float, float], *, rounds: int, budget: float
) -> Iterator[dict[str, Any]]:
    """Check every method, then time them in turn for `rounds` rounds or `budget` seconds; one row per method.

    `limits` are the machine's measured ceilings: bytes per second and FLOPs per second.
    """
    for method in comparison.methods:
        method.check(method.run())
    times: dict[str, list[float]] = {method.name: [] for method in comparison.methods}
    deadline = time.monotonic() + budget
    for turn in range(rounds + 2):
        for method in comparison.methods:
            times[method.name].append(seconds(method.run, device))
        if time.monotonic() > deadline and turn >= 4:
            break
    for method in comparison.methods:
        measured = times[method.name][2:]
        median = quantile(measured, 0.5)
        row: dict[str, Any] = {
            "benchmark": comparison.benchmark,
            "size": comparison.size,
            "dtype": comparison.dtype,
            "method": method.name,
            "runs": len(measured),
            "peak_mib": f"{peak_bytes(method.run, device) / 2**20:.1f}",
        }
        for name, share in (("p20_ms", 0.2), ("p50_ms", 0.5), ("p80_ms", 0.8)):
            row[name] = f"{quantile(measured, share) * 1e3:.4f}"
        if method.moved is not None:
            row["moved_gb_s"] = f"{method.moved / median / 1e9:.2f}"
            row["of_copy"] = f"{method.moved / median / limits[0]:.3f}"
        if method.flops is not None:
            row["tflop_s"] = f"{method.flops / median / 1e12:.4f}"
            row["of_matmul"] = f"{method.flops / median / limits[1]:.3f}"
        yield row


def provenance(device: torch.device) -> dict[str, str]:
    """What a row says of where it was measured."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True).stdout.strip()

    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return ""

    dirty = git("status", "--porcelain", "--", *SOURCES)
    return {
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+changes" if dirty else ""),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else cpu_name(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "triton": version("triton"),
        "trl": version("trl"),
        "cuda": torch.version.cuda or "",
    }


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@contextmanager
def record(path: Path, device: torch.device) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that appends a row, with its provenance, to the CSV of record at `path` and prints it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    source = provenance(device)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        if new:
            writer.writeheader()

        def write(row: dict[str, Any]) -> None:
            writer.writerow(source | row)
            file.flush()
            print(
                f"{row['benchmark']:28} {row['size']:26} {row['method']:34} {row['p50_ms']:>11} ms "
                f"[{row['p20_ms']}, {row['p80_ms']}]  {row['peak_mib']:>9} MiB",
                flush=True,
            )

        yield write
