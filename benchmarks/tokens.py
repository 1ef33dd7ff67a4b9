"""Token covariance and selection against the published way, plain torch, `torch.topk` and verl's own losses."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import torch
from torch import Tensor

from benchmarks.harness import Comparison, Method
from repro import ops
from repro.losses import kl_cov_loss

FRACTION = 0.002
BAND = (0.5, 5.0)
LENGTH = 1024


def batch(tokens: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities with a heavy tail, one advantage per response, and responses of 256 to 1024 tokens."""
    generator = torch.Generator().manual_seed(0)
    rows = tokens // LENGTH
    log_probs = -6.0 * torch.rand(rows, LENGTH, generator=generator) ** 4
    advantages = torch.randn(rows, 1, generator=generator).expand(rows, LENGTH).contiguous()
    lengths = torch.randint(LENGTH // 4, LENGTH + 1, (rows, 1), generator=generator)
    mask = (torch.arange(LENGTH) < lengths).long()
    return log_probs.to(device), advantages.to(device), mask.to(device)


def published_top(log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """KL-Cov's set as the authors' code finds it: boolean index, copies to the CPU, top-k there, index back."""
    keep = mask > 0
    places = keep.reshape(-1).nonzero().squeeze(1)
    kept_advantages, kept_log_probs = advantages[keep].cpu(), log_probs[keep].cpu()
    quota = max(1, int(len(places) * FRACTION))
    cov = (kept_log_probs - kept_log_probs.mean()) * (kept_advantages - kept_advantages.mean())
    chosen = places[cov.topk(quota).indices.to(places.device)]
    selected = torch.zeros_like(keep)
    selected[chosen // mask.shape[1], chosen % mask.shape[1]] = True
    return selected


def published_band(log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """Clip-Cov's draw as the authors' code makes it: a count read on the host, all candidates listed, a permutation."""
    keep = mask > 0
    cov = (log_probs - log_probs[keep].mean()) * (advantages - advantages[keep].mean())
    cov = torch.where(keep, cov, -torch.inf)
    quota = max(int(FRACTION * keep.sum().item()), 1)
    candidates = ((cov > BAND[0]) & (cov < BAND[1]) & keep).nonzero()
    order = torch.randperm(len(candidates))[: min(quota, len(candidates))]
    chosen = candidates[order.to(candidates.device)]
    selected = torch.zeros_like(keep)
    selected[chosen[:, 0], chosen[:, 1]] = True
    return selected


def plain_top(log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
    """The same set in a few lines of torch on the tokens' device; the quota is read on the host, ties are arbitrary."""
    tokens = mask.sum()
    x, y = log_probs * mask, advantages * mask
    cov = (x - x.sum() / tokens) * (y - y.sum() / tokens)
    values = cov.masked_fill(mask == 0, -torch.inf).view(-1)
    selected = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
    selected[values.topk(max(1, int(tokens * FRACTION))).indices] = True
    return selected.view(mask.shape)


def overlaps(expected: Tensor, least: float):
    """A check that as many tokens are selected as expected, and at least the share `least` of them the same."""

    def check(selected: Tensor) -> None:
        same = int((selected & expected).sum())
        assert int(selected.sum()) == int(expected.sum()), (int(selected.sum()), int(expected.sum()))
        assert same >= least * int(expected.sum()), f"{same} of {int(expected.sum())} tokens agree"

    return check


def comparisons(tokens: int, device: torch.device) -> Iterator[Comparison]:
    """Covariance with KL-Cov's set, the set alone, and covariance with Clip-Cov's draw."""
    log_probs, advantages, mask = batch(tokens, device)
    size = f"tokens=2^{tokens.bit_length() - 1}"
    cov = ops.token_covariance(log_probs, advantages, mask, implementation="reference")
    expected = ops.select_top(cov, mask, FRACTION, implementation="reference")
    # Bytes by pass: read 4 + 4 + 8 (mask) for the sums, again and 4 written for the covariance; the Triton selection
    # turns the mask into bytes (9), writes keys (4 + 1 + 4), reads them for three more bytes (12) and for the mask (5).
    on_cuda = device.type == "cuda"
    cov_moved, top_moved = 36.0 * tokens, 35.0 * tokens

    def ours() -> Tensor:
        return ops.select_top(ops.token_covariance(log_probs, advantages, mask), mask, FRACTION)

    # Peers sum in float32: their last bits differ, and with them a few tokens at the threshold.
    exact, close = overlaps(expected, 1.0), overlaps(expected, 0.99)
    methods = [
        Method("ours", ours, exact, moved=cov_moved + top_moved if on_cuda else None),
        Method("published way", lambda: published_top(log_probs, advantages, mask), close),
        Method("plain torch", lambda: plain_top(log_probs, advantages, mask), close),
    ]
    if on_cuda:
        methods.append(Method("ours, CUDA graph", captured(ours), exact, moved=cov_moved + top_moved))
        methods.append(
            Method("ours, torch", lambda: with_torch(ours), exact),
        )
    yield Comparison("covariance + select_top", size, "float32", tuple(methods))

    quota = int(expected.sum())
    values = cov.masked_fill(mask == 0, -torch.inf).view(-1)

    def check_topk(indices: Tensor) -> None:
        exact(torch.zeros_like(expected).view(-1).index_fill_(0, indices, True).view(expected.shape))

    yield Comparison(
        "select_top",
        size,
        "float32",
        (
            Method("ours", lambda: ops.select_top(cov, mask, FRACTION), exact, moved=top_moved if on_cuda else None),
            Method("torch.topk, quota known", lambda: values.topk(quota).indices, check_topk),
        ),
    )

    candidates = (mask != 0) & (cov > BAND[0]) & (cov < BAND[1])
    drawn = min(int(candidates.sum()), max(1, int(mask.sum()) * 2 // 1000))

    def check_band(selected: Tensor) -> None:
        assert int(selected.sum()) == drawn and not (selected & ~candidates).any()

    def ours_band() -> Tensor:
        return ops.select_band(ops.token_covariance(log_probs, advantages, mask), mask, FRACTION, *BAND)

    yield Comparison(
        "covariance + select_band",
        size,
        "float32",
        (
            Method("ours", ours_band, check_band),
            Method("published way", lambda: published_band(log_probs, advantages, mask), check_band),
        ),
    )
    yield from losses(log_probs, advantages, mask, size)


def losses(log_probs: Tensor, advantages: Tensor, mask: Tensor, size: str) -> Iterator[Comparison]:
    """KL-Cov's whole loss against verl's function, where verl is installed."""
    try:
        from verl.trainer.ppo.core_algos import compute_policy_loss_kl_cov
    except ImportError:
        return
    old = log_probs + 0.01 * torch.randn_like(log_probs)
    settings = SimpleNamespace(
        policy_loss=SimpleNamespace(kl_cov_ratio=FRACTION, ppo_kl_coef=1.0), global_batch_info={}
    )
    expected, _ = kl_cov_loss(log_probs, old, advantages, mask, fraction=FRACTION)

    def check(loss: Tensor) -> None:
        assert torch.allclose(loss, expected, rtol=1e-4, atol=1e-5), (loss, expected)

    yield Comparison(
        "kl_cov_loss, forward",
        size,
        "float32",
        (
            Method("ours", lambda: kl_cov_loss(log_probs, old, advantages, mask, fraction=FRACTION)[0], check),
            Method(
                "verl",
                lambda: compute_policy_loss_kl_cov(old, log_probs, advantages, mask, "token-mean", settings)[0],
                check,
            ),
        ),
    )


def with_torch(run):
    with ops.implementation("torch"):
        return run()


def captured(run):
    """`run` as a CUDA graph: what it costs without Python and launches."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay
