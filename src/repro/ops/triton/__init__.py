"""Triton implementations for CUDA; on CPU tensors only under Triton's interpreter (TRITON_INTERPRET=1).

Every reduction has two stages, one partial result per program and then their sum, with neither atomics nor locks:
results are the same from run to run. A selection by share is a sort and a sum, for which torch has its own kernels.
"""

from __future__ import annotations

import torch
from triton import knobs

from repro.ops.torch_ops import select_share
from repro.ops.triton.tokens import select_band, select_top, token_covariance
from repro.ops.triton.vocabulary import linear_vocab_covariance, vocab_covariance

__all__ = [
    "check_device",
    "linear_vocab_covariance",
    "select_band",
    "select_share",
    "select_top",
    "token_covariance",
    "vocab_covariance",
]


def check_device(device: torch.device) -> None:
    """Raise ValueError unless the kernels run on `device`."""
    if device.type != "cuda" and not knobs.runtime.interpret:
        raise ValueError(
            f"the triton implementation runs on CUDA and the tensors are on {device}: move them, use 'torch', or set "
            "TRITON_INTERPRET=1 before the first import"
        )
