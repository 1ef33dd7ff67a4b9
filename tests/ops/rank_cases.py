"""What several ranks together must select: one rank's share of the checks, run by test_ranks.py once per rank.

Every rank makes the same batches from the same seeds, takes its rows, and compares its part of the result with that of
the whole batch in one process.
"""

import sys
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from repro import ops
from repro.losses import clip_cov_loss, kl_cov_loss


def batches(world: int) -> list[tuple[Tensor, Tensor, Tensor, list[int]]]:
    """Log-probabilities, advantages, mask, and how many rows each rank holds: uneven, and for some ranks none."""
    generator = torch.Generator().manual_seed(0)
    cases = []
    for index in range(12):
        rows, columns = int(torch.randint(world, 9, (), generator=generator)), 1 + index * 3
        levels = (1, 3, 10**6)[index % 3]
        log_probs = -torch.randint(0, levels, (rows, columns), generator=generator) / max(1, levels // 3)
        advantages = torch.randn(rows, 1, generator=generator)
        mask = torch.rand(rows, columns, generator=generator) < (0.0, 0.5, 0.9, 1.0)[index % 4]
        cuts = torch.randint(0, rows + 1, (world - 1,), generator=generator).sort().values.tolist()
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, rows], strict=True)]
        cases.append((log_probs, advantages, mask, sizes))
    return cases


def check(implementation: str) -> None:
    rank, world, group = dist.get_rank(), dist.get_world_size(), dist.group.WORLD
    forced = {"implementation": implementation}
    drawn_in_all = 0
    # The interpreter is slow: it sees every fifth batch, each with another mask.
    cases = list(enumerate(batches(world)))[:: 5 if implementation == "triton" else 1]
    for seed, (log_probs, advantages, mask, sizes) in cases:
        mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        whole = ops.token_covariance(log_probs, advantages, mask, implementation="reference")
        cov = ops.token_covariance(log_probs[mine], advantages[mine], mask[mine], group=group, **forced)
        assert torch.equal(cov, whole[mine])
        for fraction in (0.0, 0.02, 0.3, 1.0):
            expected = ops.select_top(whole, mask, fraction, implementation="reference")
            selected = ops.select_top(cov, mask[mine], fraction, group=group, **forced)
            assert torch.equal(selected, expected[mine])
            # All ranks draw with the first rank's generator: the others' seeds must not matter.
            generator = torch.Generator().manual_seed(seed + 1000 * rank)
            drawn = ops.select_band(cov, mask[mine], fraction, -0.5, 0.5, generator=generator, group=group, **forced)
            generator = torch.Generator().manual_seed(seed)
            expected = ops.select_band(
                whole, mask, fraction, -0.5, 0.5, generator=generator, implementation="reference"
            )
            assert torch.equal(drawn, expected[mine])
            drawn_in_all += int(expected.sum())
    assert drawn_in_all > 50


def check_other_dtypes() -> None:
    rank, group = dist.get_rank(), dist.group.WORLD
    generator = torch.Generator().manual_seed(3)
    cov = torch.randn(2, 40, generator=generator, dtype=torch.float64)
    # Apart by less than float32 can tell.
    cov[1, :20] = cov[0, :20] + 1e-12
    mask = torch.ones(2, 40)
    rows = slice(rank, rank + 1) if rank < 2 else slice(0, 0)
    for tensor in (cov, cov.bfloat16()):
        expected = ops.select_top(tensor, mask, 0.2, implementation="reference")
        assert torch.equal(ops.select_top(tensor[rows], mask[rows], 0.2, group=group), expected[rows])


def check_broken(implementation: str) -> None:
    """A NaN on the last rank is everyone's: all raise, or under Triton all select nothing; none is left waiting."""
    rank, world, group = dist.get_rank(), dist.get_world_size(), dist.group.WORLD
    cov, mask = torch.arange(6.0).view(2, 3), torch.ones(2, 3)
    mask[1, 2] = 0
    if rank == world - 1:
        cov[0, 1] = float("nan")
    if implementation == "triton":
        assert not ops.select_top(cov, mask, 0.5, group=group, implementation=implementation).any()
        assert not ops.select_band(cov, mask, 0.5, 0.0, 9.0, group=group, implementation=implementation).any()
    else:
        with pytest.raises(ValueError, match="1 unmasked"):
            ops.select_top(cov, mask, 0.5, group=group, implementation=implementation)
        with pytest.raises(ValueError, match="1 unmasked"):
            ops.select_band(cov, mask, 0.5, 0.0, 9.0, group=group, implementation=implementation)
    spread = ops.token_covariance(cov, cov, mask, group=group, implementation=implementation)
    assert spread[mask != 0].isnan().all() and spread[1, 2] == 0


def check_counts(implementation: str) -> None:
    """Hand-made: what a threshold `cov > tau`, or a quota per rank or micro-batch, gets wrong.

    Two ranks of 5 tokens each, others of none. A strict threshold at the k-th largest selects k - 1 tokens, none at
    k = 1, and fewer at a tie; `cov >= tau` selects every tied token; a quota of each rank selects too many.
    """
    rank, group = dist.get_rank(), dist.group.WORLD
    rows = slice(rank, rank + 1) if rank < 2 else slice(0, 0)
    forced = {"implementation": implementation, "group": group}
    one_peak = [[0, 1, 2, 3, 4], [9, 8, 7, 6, 5]]
    level = [[2, 2, 2, 2, 2], [2, 2, 2, 2, 2]]
    tie_across = [[1, 5, 1, 5, 1], [9, 5, 5, 1, 1]]
    for values, fraction, minimum, expected in (
        (one_peak, 0.1, 0, [(1, 0)]),  # k = 1: the largest, on one rank alone
        (one_peak, 0.0, 1, [(1, 0)]),  # and a minimum of 1 is 1 in all, not 1 on each rank
        (one_peak, 0.2, 0, [(1, 0), (1, 1)]),
        (one_peak, 0.6, 0, [(0, 4), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4)]),
        (level, 0.1, 0, [(0, 0)]),  # ties go by index over the ranks: the first rank's come first
        (level, 0.3, 0, [(0, 0), (0, 1), (0, 2)]),
        (level, 0.7, 0, [*((0, i) for i in range(5)), (1, 0), (1, 1)]),
        (tie_across, 0.1, 0, [(1, 0)]),
        (tie_across, 0.3, 0, [(0, 1), (0, 3), (1, 0)]),  # the tie at 5 is cut after the first rank's two
        (tie_across, 0.4, 0, [(0, 1), (0, 3), (1, 0), (1, 1)]),
    ):
        wanted = torch.zeros(2, 5, dtype=torch.bool)
        wanted[tuple(torch.tensor(expected).T)] = True
        cov = torch.tensor(values, dtype=torch.float32)
        selected = ops.select_top(cov[rows], torch.ones(2, 5)[rows], fraction, minimum=minimum, **forced)
        assert torch.equal(selected, wanted[rows]), (values, fraction, selected)
    # Clip-Cov: candidates strictly between 3 and 6; how many are drawn in all, and from where.
    one_sided, mixed, none = [[0] * 5, [4, 5, 4, 5, 9]], [[4, 3, 4, 6, 0], [5, 4, 3, 6, 4]], [[3] * 5, [6] * 5]
    for values, fraction, minimum, count in (
        (one_sided, 0.1, 1, 1),  # all candidates on one rank: its share of the pool is not its quota
        (one_sided, 0.4, 1, 4),  # a quota of each rank by itself would draw 2
        (mixed, 0.1, 1, 1),  # and of each rank at least 1 would draw 2
        (mixed, 0.3, 1, 3),
        (mixed, 0.9, 1, 5),  # there are only 5
        (none, 0.5, 1, 0),
    ):
        cov = torch.tensor(values, dtype=torch.float32)
        draws = []
        for seed in range(4):
            generator = torch.Generator().manual_seed(seed)
            drawn = ops.select_band(
                cov[rows], torch.ones(2, 5)[rows], fraction, 3.0, 6.0, minimum=minimum, generator=generator, **forced
            )
            assert not (drawn & ~((cov[rows] > 3) & (cov[rows] < 6))).any()
            total = drawn.sum()
            dist.all_reduce(total)
            assert int(total) == count, (values, fraction, int(total))
            draws.append(drawn.flatten().tolist())
        if count == 3 and rank < 2:
            assert len(set(map(tuple, draws))) > 1  # a draw, not the largest


def check_shares(implementation: str) -> None:
    """Tokens that carry a share, by a score with ties and in a random order, whatever each rank holds."""
    rank, world, group = dist.get_rank(), dist.get_world_size(), dist.group.WORLD
    forced = {"group": group, "implementation": implementation}
    taken = 0
    for seed, (score, weight, mask, sizes) in enumerate(batches(world)):
        mine = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        # No finite number of binary digits, so that sums of floats would depend on the split.
        weight = weight.abs().expand(score.shape) / 3
        drawn = ops.draw_scores(mask, generator=torch.Generator().manual_seed(seed))
        own = ops.draw_scores(mask[mine], generator=torch.Generator().manual_seed(seed + 1000 * rank), group=group)
        assert torch.equal(own, drawn[mine])
        for share in (0.0, 0.02, 0.3, 1.0):
            for whole, part in ((score, score[mine]), (drawn, own)):
                expected = ops.select_share(whole, weight, mask, share, implementation="reference")
                assert torch.equal(ops.select_share(part, weight[mine], mask[mine], share, **forced), expected[mine])
                taken += int(expected.sum())
    assert taken > 50
    # A NaN on the last rank is everyone's.
    broken = torch.full((1, 2), float("nan") if rank == world - 1 else 1.0)
    with pytest.raises(ValueError, match="1 unmasked score"):
        ops.select_share(broken, torch.ones(1, 2), torch.tensor([[0, 1]]), 0.5, **forced)


def check_losses() -> None:
    """Token-weighted, the ranks' losses and gradients add up to those of the whole batch."""
    rank, world, group = dist.get_rank(), dist.get_world_size(), dist.group.WORLD
    generator = torch.Generator().manual_seed(1)
    log_probs = -torch.rand(2 * world, 30, generator=generator)
    old = log_probs + 0.3 * torch.randn(2 * world, 30, generator=generator)
    advantages, mask = torch.randn(2 * world, generator=generator), torch.rand(2 * world, 30, generator=generator) < 0.8
    mine = slice(2 * rank, 2 * rank + 2)

    def run(method: Callable, rows: slice, **settings) -> tuple[Tensor, Tensor, Tensor]:
        leaf = log_probs[rows].clone().requires_grad_()
        loss, metrics = method(leaf, old[rows], advantages[rows], mask[rows], fraction=0.1, **settings)
        loss.backward()
        return loss.detach(), leaf.grad, metrics["selected/count"]

    def clip_cov(*args, **settings) -> tuple[Tensor, dict[str, Tensor]]:
        return clip_cov_loss(*args, low=0.05, high=0.5, generator=torch.Generator().manual_seed(5), **settings)

    for method in (kl_cov_loss, clip_cov):
        whole, whole_gradient, whole_count = run(method, slice(None))
        loss, gradient, count = run(method, mine, group=group)
        share = mask[mine].sum() / mask.sum()
        assert torch.allclose(gradient * share, whole_gradient[mine], atol=1e-7)
        totals = torch.stack([loss * share, count.float()])
        dist.all_reduce(totals)
        assert torch.allclose(totals[0], whole, atol=1e-6)
        assert int(totals[1]) == int(whole_count) == int(mask.sum()) // 10


def main(rank: str, world: str, store: str, implementation: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(world))
    check(implementation)
    check_counts(implementation)
    check_broken(implementation)
    if implementation != "triton":
        check_shares(implementation)
    if implementation == "torch":
        check_other_dtypes()
        check_losses()
    dist.barrier()
    dist.destroy_process_group()
    print("all checks ran")


if __name__ == "__main__":
    main(*sys.argv[1:])
