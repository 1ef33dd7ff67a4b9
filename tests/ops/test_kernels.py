"""The Triton kernels: under the interpreter on every machine, on a GPU where there is one, and compiled for Hopper.

Triton decides at import whether it interprets, so the cases of kernel_cases.py run in a process of their own.
"""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from repro import ops

CASES = Path(__file__).with_name("kernel_cases.py")


def run_cases(**environment: str) -> int:
    """Run the cases in a new process; how many passed, none having failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    # Triton warns of a default that changes in 3.10; the kernels do not depend on it.
    environment = {**os.environ, "TRITON_DEFAULT_FP_FUSION": "1", **environment}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed, result.stdout
    return int(passed[1])


@pytest.mark.interpreter
def test_kernels_under_the_interpreter() -> None:
    assert run_cases(TRITON_INTERPRET="1") >= 50


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_kernels_on_a_gpu() -> None:
    assert run_cases(TRITON_INTERPRET="0") >= 50


@pytest.mark.skipif(not ops._HAS_TRITON, reason="needs Triton")
@pytest.mark.parametrize(
    ("module", "kernel", "constants"),
    [
        ("tokens", "_sums_kernel", {}),
        ("tokens", "_covariance_kernel", {}),
        ("tokens", "_top_keys_kernel", {}),
        ("tokens", "_candidates_kernel", {"EXCLUDE": True}),
        ("tokens", "_band_keys_kernel", {"EXCLUDE": True, "PROGRAMS": 1024}),
        ("tokens", "_digits_kernel", {"LEVEL": 1, "minimum": 1, "numerator": 1}),
        ("tokens", "_digits_kernel", {"LEVEL": 3}),
        ("tokens", "_select_kernel", {"PROGRAMS": 1024}),
        ("vocabulary", "_fold_kernel", {"NEXT": False, "BIAS": False, "NEXT_BIAS": False, "SOFTCAP": False}),
        ("vocabulary", "_fold_kernel", {"NEXT": True, "BIAS": True, "NEXT_BIAS": True, "SOFTCAP": True}),
    ],
)
def test_kernels_compile_for_hopper(
    monkeypatch: pytest.MonkeyPatch, module: str, kernel: str, constants: dict[str, int]
) -> None:
    """Triton's compiler and ptxas accept what the interpreter accepts; that needs no GPU."""
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernels = importlib.import_module(f"repro.ops.triton.{module}")
    function = getattr(kernels, kernel)
    constants = {"BLOCK": kernels.BLOCK, **constants}
    types = {
        **dict.fromkeys(["low", "high", "inverse_temperature", "softcap"], "fp32"),
        **dict.fromkeys(["mask_ptr", "exclude_ptr"], "*u8"),
        **dict.fromkeys(["key_ptr", "counts_ptr"], "*i32"),
        **dict.fromkeys(["earlier_ptr", "seed_ptr"], "*i64"),
        **dict.fromkeys(["bias_ptr", "next_bias_ptr"], "*bf16"),
        **dict.fromkeys(["x_ptr", "y_ptr", "z_ptr", "cov_ptr", "moments_ptr"], "*fp32"),
        "partial_ptr": "*fp64" if kernel == "_sums_kernel" else "*i32",
        "totals_ptr": "*fp64" if kernel == "_covariance_kernel" else "*i64",
        "out_ptr": "*fp32" if kernel == "_covariance_kernel" else "*u8",
    }
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in function.arg_names}
    places = {(function.arg_names.index(name),): value for name, value in constants.items()}
    compiled = triton.compile(
        ASTSource(fn=function, signature=signature, constexprs=places),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": kernels.WARPS},
    )
    assert compiled.asm["cubin"]


def test_the_operators_need_no_triton() -> None:
    code = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "triton" else find(name, *rest)
sys.modules["triton"] = None
import torch
from repro import ops
assert ops.select_top(torch.arange(4.0), torch.ones(4), 0.5).tolist() == [False, False, True, True]
assert "repro.ops.triton" not in sys.modules
try:
    ops.select_top(torch.arange(4.0), torch.ones(4), 0.5, implementation="triton")
except ModuleNotFoundError as error:
    assert "pip install triton" in str(error)
    print("refused")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "refused\n"
