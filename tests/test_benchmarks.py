"""The benchmarks: nothing is timed on a wrong result, and the page is what the record says."""

import csv
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from repro import ops, paths

CPU = torch.device("cpu")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The benchmark package, which is not installed."""
    monkeypatch.syspath_prepend(str(paths.root()))
    names = ("harness", "tokens", "vocabulary", "generation", "figures")
    return SimpleNamespace(**{name: importlib.import_module(f"benchmarks.{name}") for name in names})


def test_nothing_is_timed_on_a_wrong_result(bench: SimpleNamespace) -> None:
    calls = []

    def right(result: int) -> None:
        assert result == 2

    method = bench.harness.Method("good", lambda: calls.append("good") or 2, right)
    wrong = bench.harness.Method("bad", lambda: calls.append("bad") or 3, right)
    comparison = bench.harness.Comparison("sum", "1", "float32", (method, wrong))
    with pytest.raises(AssertionError):
        list(bench.harness.measure(comparison, CPU, (1.0, 1.0), rounds=3, budget=1.0))
    assert calls == ["good", "bad"]


def test_methods_take_turns_and_rows_say_what_was_measured(bench: SimpleNamespace, tmp_path: Path) -> None:
    calls = []
    methods = tuple(
        bench.harness.Method(name, lambda name=name: calls.append(name), lambda result: None, moved=1e6, flops=2e6)
        for name in ("ours", "other")
    )
    comparison = bench.harness.Comparison("sum", "n=1", "float32", methods)
    path = tmp_path / "deep" / "cpu.csv"
    for _ in range(2):
        with bench.harness.record(path, CPU) as write:
            for row in bench.harness.measure(comparison, CPU, (1e9, 1e9), rounds=3, budget=1.0):
                write(row)
    assert calls[:14] == ["ours", "other"] * 6 + ["ours", "other"]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["ours", "other"] * 2
    for row in rows:
        assert row["torch"] == torch.__version__ and len(row["commit"]) >= 7 and row["device"] and row["runs"] == "3"
        assert float(row["p20_ms"]) <= float(row["p50_ms"]) <= float(row["p80_ms"])
        assert float(row["moved_gb_s"]) == pytest.approx(float(row["of_copy"]), rel=0.1, abs=0.01)
    assert len(bench.figures.latest(path)) in (2, 4)
    assert bench.figures.latest(tmp_path / "none.csv") == []


def test_peak_memory_counts_temporaries_and_not_inputs(bench: SimpleNamespace) -> None:
    x = torch.ones(2**20)
    assert bench.harness.peak_bytes(lambda: x.sum(), CPU) < 2**16
    assert bench.harness.peak_bytes(lambda: (x + 1) * (x + 2), CPU) == pytest.approx(3 * 2**22, rel=0.01)
    assert bench.harness.peak_bytes(lambda: [(x + 1).sum() for _ in range(3)], CPU) == pytest.approx(2**22, rel=0.01)


def test_peers_find_what_ours_find(bench: SimpleNamespace) -> None:
    inputs = bench.tokens.batch(2**14, CPU)
    log_probs, advantages, mask = inputs
    cov = ops.token_covariance(log_probs, advantages, mask)
    expected = ops.select_top(cov, mask, bench.tokens.FRACTION)
    assert torch.equal(bench.tokens.published_top(*inputs), expected)
    assert torch.equal(bench.tokens.plain_top(*inputs), expected)
    drawn = bench.tokens.published_band(*inputs)
    low, high = bench.tokens.BAND
    assert int(drawn.sum()) == int(mask.sum()) // 500
    assert not (drawn & ~((mask != 0) & (cov > low) & (cov < high))).any()


def test_every_comparison_passes_its_gate(bench: SimpleNamespace) -> None:
    comparisons = [
        *bench.tokens.comparisons(2**14, CPU),
        *bench.vocabulary.comparisons(70, 32, 500, CPU, torch.float32),
        *bench.vocabulary.comparisons(70, 32, 500, CPU, torch.bfloat16),
    ]
    assert len(comparisons) >= 7
    for comparison in comparisons:
        for method in comparison.methods:
            with torch.no_grad():
                method.check(method.run())


def test_generation_is_compared_where_greedy_tokens_agree(bench: SimpleNamespace, monkeypatch) -> None:
    comparison = bench.generation.comparison("s", 6, 2)
    assert [method.name for method in comparison.methods] == ["ours", bench.generation.PEER]
    assert comparison.size == "base=s completions=6x2" and comparison.dtype == "float32"
    for method in comparison.methods:
        completions = method.run()
        method.check(completions)
        assert len(completions) == 12
        with pytest.raises(AssertionError):
            method.check(completions[:-1])
    wrong = [[3, 1]] * 12
    monkeypatch.setattr(bench.generation, "sample_tokens", lambda *args, **kwargs: wrong)
    with pytest.raises(AssertionError, match="ours: greedy tokens differ from those of transformers"):
        comparison.methods[0].check(wrong)


def test_generation_is_timed_and_recorded(bench: SimpleNamespace, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    bench.generation.run(tmp_path / "generation.csv", quick=True)
    torch.set_num_threads(threads)
    rows = bench.figures.latest(tmp_path / "generation.csv")
    assert [row["method"] for row in rows] == ["ours", bench.generation.PEER]
    assert all(row["threads"] == "1" and float(row["p50_ms"]) > 0 for row in rows)
    cpu = bench.figures.latest(bench.harness.RESULTS / "cpu.csv")
    text = bench.figures.parts(cpu, [], rows)["generation.md"]
    assert f"| generation | base=s completions=8x8 | {bench.generation.PEER} |" in text
    assert "Not yet timed" in bench.figures.parts(cpu, [], [])["generation.md"]


def row(benchmark: str, size: str, method: str, milliseconds: float, mib: float = 1.0) -> dict[str, str]:
    return {
        "benchmark": benchmark,
        "size": size,
        "method": method,
        "p50_ms": str(milliseconds),
        "peak_mib": str(mib),
    }


def test_aims_are_judged_by_the_record(bench: SimpleNamespace) -> None:
    cpu = [
        row("covariance + select_top", "tokens=2^20", "ours", 4.0),
        row("covariance + select_top", "tokens=2^20", "published way", 9.0),
        row("linear_vocab_covariance", "N=1", "ours", 5.0, 1.0),
        row("linear_vocab_covariance", "N=1", "naive [N, V]", 6.0, 8.0),
    ]
    lines = bench.figures.aims(cpu, []).splitlines()[2:]
    assert "| 2.25 | no |" in lines[0]
    assert "| 0.8333 | yes |" in lines[1] and "| 0.125 | yes |" in lines[2]
    assert len(lines) == 8 and all(line.endswith(f"|  | {bench.figures.NOT_RUN} |") for line in lines[3:])
    gpu = [row("covariance + select_top", "tokens=2^24", "ours", 0.4)]
    assert "<= 0.5 ms | 0.4 | yes |" in bench.figures.aims(cpu, gpu)


def test_the_page_is_what_the_record_says(bench: SimpleNamespace) -> None:
    cpu = bench.figures.latest(bench.harness.RESULTS / "cpu.csv")
    gpu = bench.figures.latest(bench.harness.RESULTS / "gpu.csv")
    generation = bench.figures.latest(bench.harness.RESULTS / "generation.csv")
    assert cpu
    for name, text in bench.figures.parts(cpu, gpu, generation).items():
        assert (bench.figures.PAGE_PARTS / name).read_text() == text, f"run python -m benchmarks.figures: {name}"
    figure = bench.figures.draw(cpu)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["covariance + select_top", "select_top", "covariance + select_band", "linear_vocab_covariance"]
    assert all(axes.lines for axes in figure.axes)
    assert (bench.figures.PAGE_PARTS / "cpu.svg").stat().st_size > 10_000


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_the_gpu_benchmark_says_so() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=paths.root(), capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1
    assert "sees no CUDA device" in result.stderr and "make bench" in result.stderr
