"""Token covariance and selection: hand-made tables, laws and invariances, for every way to compute them."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from repro import ops
from repro.ops import common, torch_ops

settings.register_profile("ops", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("ops")

# "static" is the torch implementation as it runs on a device: nothing is read on the host, shapes are static.
# "ranks" is the radix search that several ranks run, here with a group of one.
WAYS = ("reference", "torch", "static", "ranks")


@pytest.fixture(scope="module")
def one_rank() -> Iterator[dist.ProcessGroup]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


@contextmanager
def way(name: str) -> Iterator[dict]:
    """Keyword arguments for an operator, and what else makes it run in the named way."""
    if name == "static":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch_ops, "may_read_values", lambda *tensors: False)
            yield {"implementation": "torch"}
    elif name == "ranks":
        yield {"implementation": "torch", "group": dist.group.WORLD}
    else:
        yield {"implementation": name}


@pytest.fixture(params=WAYS)
def kwargs(request: pytest.FixtureRequest, one_rank: dist.ProcessGroup) -> Iterator[dict]:
    with way(request.param) as chosen:
        yield chosen


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Covariances with many ties, and a mask, from nothing unmasked to everything."""
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 40)))
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    levels = draw(st.sampled_from([1, 3, 1000]))
    cov = (torch.randint(-levels, levels + 1, shape, generator=generator) / 7.0).float()
    cov *= draw(st.sampled_from([1.0, -1.0, 1e-30, 1e30]))
    kept = draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    return cov, torch.rand(shape, generator=generator) < kept


def chosen_places(cov: Tensor, mask: Tensor, quota: int) -> set[int]:
    """The definition once more, in Python: largest first, then lowest flat index."""
    kept = [i for i, keep in enumerate(mask.flatten().tolist()) if keep]
    values = cov.flatten().tolist()
    return set(sorted(kept, key=lambda i: (-values[i], i))[:quota])


def places(selected: Tensor) -> set[int]:
    return set(selected.flatten().nonzero().flatten().tolist())


# Covariance


def test_covariance_of_a_table(kwargs: dict) -> None:
    # Unmasked log-probabilities -1, -2, -3, -2: mean -2. Their advantages 4, 0, 0, 4: mean 2.
    log_probs = torch.tensor([[-1.0, -2.0, -9.0], [-3.0, -2.0, -9.0]])
    advantages = torch.tensor([[4.0, 0.0, 9.0], [0.0, 4.0, 9.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 0]])
    cov = ops.token_covariance(log_probs, advantages, mask, **kwargs)
    assert torch.equal(cov, torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]]))


def test_covariance_takes_an_advantage_per_sequence(kwargs: dict) -> None:
    log_probs = torch.tensor([[-1.0, -2.0], [-3.0, -5.0]])
    mask = torch.tensor([[True, True], [True, False]])
    per_token = ops.token_covariance(log_probs, torch.tensor([[1.0, 1.0], [-2.0, -2.0]]), mask, **kwargs)
    for advantages in (torch.tensor([1.0, -2.0]), torch.tensor([[1.0], [-2.0]])):
        assert torch.equal(ops.token_covariance(log_probs, advantages, mask, **kwargs), per_token)
    # Means -2 and 0: (1)(1), (0)(1), (-1)(-2).
    assert torch.equal(per_token, torch.tensor([[1.0, 0.0], [2.0, 0.0]]))


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_masked_places_are_never_read(kwargs: dict, garbage: float) -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs, advantages = -torch.rand(4, 9, generator=generator), torch.randn(4, 9, generator=generator)
    mask = torch.rand(4, 9, generator=generator) < 0.6
    clean = ops.token_covariance(log_probs, advantages, mask, **kwargs)
    dirty_log_probs, dirty_advantages = log_probs.clone(), advantages.clone()
    dirty_log_probs[~mask] = garbage
    dirty_advantages[~mask] = garbage
    cov = ops.token_covariance(dirty_log_probs, dirty_advantages, mask, **kwargs)
    assert torch.equal(cov, clean)
    assert not cov[~mask].any()
    dirty = torch.where(mask, cov, garbage)
    assert torch.equal(ops.select_top(dirty, mask, 0.3, **kwargs), ops.select_top(cov, mask, 0.3, **kwargs))
    band = {"generator": torch.Generator().manual_seed(1), **kwargs}
    drawn = ops.select_band(dirty, mask, 0.3, -0.2, 1e39, **band)
    band["generator"] = torch.Generator().manual_seed(1)
    assert torch.equal(drawn, ops.select_band(cov, mask, 0.3, -0.2, 1e39, **band))
    assert not drawn[~mask].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_error_is_no_larger_than_that_of_plain_torch(kwargs: dict, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = (-(torch.rand(40, 50, generator=generator, dtype=torch.float64) ** 4) * 8).to(dtype)
    advantages = torch.randn(40, 50, generator=generator, dtype=torch.float64).to(dtype)
    mask = torch.rand(40, 50, generator=generator) < 0.7
    truth = ops.token_covariance(log_probs.double(), advantages.double(), mask, implementation="reference")
    cov = ops.token_covariance(log_probs, advantages, mask, **kwargs)
    assert cov.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    wide = cov.dtype
    x, y = log_probs[mask].to(wide), advantages[mask].to(wide)
    plain = (x - x.mean()) * (y - y.mean())
    slack = 4 * torch.finfo(wide).eps * truth.abs().max()
    assert (cov - truth).abs().max() <= (plain - truth[mask]).abs().max() + slack


@given(batches(), st.sampled_from(WAYS), st.floats(-50, 50), st.sampled_from([0.25, 2.0, -3.0]))
def test_shift_and_scale_laws(one_rank: dist.ProcessGroup, batch, name: str, shift: float, scale: float) -> None:
    log_probs, mask = batch
    log_probs = log_probs / log_probs.abs().max().clamp(min=1e-30)
    advantages = log_probs.flip(0).roll(1, 1)
    with way(name) as kwargs:
        cov = ops.token_covariance(log_probs, advantages, mask, **kwargs)
        shifted = ops.token_covariance(log_probs + shift, advantages - shift, mask, **kwargs)
        scaled = ops.token_covariance(log_probs * scale, advantages, mask, **kwargs)
    # A shift by up to 50 rounds inputs of up to 1 at eps * 50.
    assert torch.allclose(shifted, cov, atol=4 * 50 * 1.2e-7)
    assert torch.allclose(scaled, cov * scale, atol=1e-6)
    # Each factor sums to 0 over the unmasked tokens, so equal advantages give 0 everywhere.
    with way(name) as kwargs:
        flat = ops.token_covariance(log_probs, torch.full_like(advantages, 0.7), mask, **kwargs)
    assert flat.abs().max() <= 2.5e-7


@given(batches(), st.sampled_from(WAYS), st.integers(0, 2**31))
def test_permutation_and_padding_change_nothing(one_rank: dist.ProcessGroup, batch, name: str, seed: int) -> None:
    cov, mask = batch
    log_probs = cov / cov.abs().max().clamp(min=1e-30)
    advantages = log_probs.roll(1)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(cov.numel(), generator=generator)
    padding = torch.full((cov.shape[0], 3), float("nan"))
    with way(name) as kwargs:
        whole = ops.token_covariance(log_probs, advantages, mask, **kwargs)
        shuffled = ops.token_covariance(
            log_probs.view(-1)[order], advantages.view(-1)[order], mask.view(-1)[order], **kwargs
        )
        padded = ops.token_covariance(
            torch.cat([log_probs, padding], 1),
            torch.cat([advantages, padding], 1),
            torch.cat([mask, torch.zeros_like(padding, dtype=torch.bool)], 1),
            **kwargs,
        )
    assert torch.equal(shuffled, whole.view(-1)[order])
    assert torch.equal(padded[:, :-3], whole)


def test_covariance_of_chunks_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs, advantages = torch.randn(23, 17, generator=generator), torch.randn(23, 1, generator=generator)
    mask = torch.rand(23, 17, generator=generator) < 0.5
    expected = ops.token_covariance(log_probs, advantages, mask, implementation="reference")
    for chunk in (1, 40, 10**6):
        monkeypatch.setattr(torch_ops, "CHUNK", chunk)
        for kept in (mask, mask.float(), mask.long(), mask.to(torch.uint8)):
            assert torch.equal(ops.token_covariance(log_probs, advantages, kept, implementation="torch"), expected)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_covariance_propagates_what_is_not_finite(kwargs: dict, broken: float) -> None:
    log_probs = torch.full((2, 3), -1.0)
    log_probs[0, 1] = broken
    mask = torch.ones(2, 3, dtype=torch.bool)
    mask[1, 2] = False
    cov = ops.token_covariance(log_probs, torch.arange(6.0).view(2, 3), mask, **kwargs)
    assert not torch.isfinite(cov[mask]).any()
    assert cov[1, 2] == 0


def test_nothing_unmasked(kwargs: dict) -> None:
    mask = torch.zeros(2, 3)
    cov = ops.token_covariance(torch.randn(2, 3), torch.randn(2, 3), mask, **kwargs)
    assert torch.equal(cov, torch.zeros(2, 3))
    assert not ops.select_top(cov, mask, 0.5, **kwargs).any()
    assert not ops.select_band(cov, mask, 0.5, -1.0, 1.0, **kwargs).any()
    empty = torch.zeros(0, 3)
    assert ops.token_covariance(empty, empty, empty, **kwargs).shape == (0, 3)
    assert ops.select_top(empty, empty, 0.5, **kwargs).shape == (0, 3)
    assert ops.select_band(empty, empty, 0.5, 0.0, 1.0, **kwargs).shape == (0, 3)


def test_no_gradient_flows() -> None:
    log_probs = torch.randn(2, 3, requires_grad=True)
    assert not ops.token_covariance(log_probs, torch.randn(2, 3), torch.ones(2, 3)).requires_grad


# The largest


def test_top_of_a_table(kwargs: dict) -> None:
    cov = torch.tensor([[3.0, 1.0, 2.0], [3.0, -5.0, 9.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    # N = 5. floor(0.1 * 5) = 0, raised to the minimum; the tie of the two 3s goes to the lower index.
    table = {0.0: {0}, 0.1: {0}, 0.2: {0}, 0.4: {0, 3}, 0.6: {0, 2, 3}, 0.99: {0, 1, 2, 3}, 1.0: {0, 1, 2, 3, 4}}
    for fraction, expected in table.items():
        assert places(ops.select_top(cov, mask, fraction, **kwargs)) == expected, fraction
    assert not ops.select_top(cov, mask, 0.1, minimum=0, **kwargs).any()
    assert places(ops.select_top(cov, mask, 0.0, minimum=3, **kwargs)) == {0, 2, 3}
    assert places(ops.select_top(cov, mask, 0.0, minimum=100, **kwargs)) == {0, 1, 2, 3, 4}


@given(batches(), st.sampled_from(WAYS), st.sampled_from([0.0, 0.002, 0.02, 0.29, 1 / 3, 0.5, 1.0]), st.integers(0, 3))
def test_top_is_the_definition(one_rank: dist.ProcessGroup, batch, name: str, fraction: float, minimum: int) -> None:
    cov, mask = batch
    tokens = int(mask.sum())
    numerator, denominator = {0.002: (1, 500), 0.02: (1, 50), 0.29: (29, 100), 1 / 3: (1, 3)}.get(
        fraction, (int(fraction * 2), 2)
    )
    quota = min(tokens, max(minimum, tokens * numerator // denominator))
    with way(name) as kwargs:
        selected = ops.select_top(cov, mask, fraction, minimum=minimum, **kwargs)
    assert places(selected) == chosen_places(cov, mask, quota)


@given(batches(), st.sampled_from(WAYS[1:]))
def test_layout_and_dtype_of_the_input_do_not_matter(one_rank: dist.ProcessGroup, batch, name: str) -> None:
    cov, mask = batch
    with way(name) as kwargs:
        expected = ops.select_top(cov, mask, 0.3, **kwargs)
        wide = torch.empty(cov.shape[0], cov.shape[1] * 2)[:, ::2].copy_(cov)
        turned = cov.T.contiguous().T
        for other in (wide, turned, cov.double()):
            assert not other.is_contiguous() or other.dtype == torch.float64 or 1 in other.shape
            assert torch.equal(ops.select_top(other, mask.T.contiguous().T, 0.3, **kwargs), expected)
        half = cov.clamp(-100, 100).bfloat16()
        assert torch.equal(
            ops.select_top(half, mask.float(), 0.3, **kwargs), ops.select_top(half.float(), mask, 0.3, **kwargs)
        )


def test_zeros_of_either_sign_are_equal(kwargs: dict) -> None:
    cov = torch.tensor([[-0.0, 0.0, -0.0, 0.0, -1.0]])
    assert places(ops.select_top(cov, torch.ones(1, 5), 0.4, **kwargs)) == {0, 1}
    assert places(ops.select_top(cov.double(), torch.ones(1, 5), 0.6, **kwargs)) == {0, 1, 2}


def test_extreme_values_keep_their_order(kwargs: dict) -> None:
    tiny, huge = 1.4e-45, 3.4028234e38
    cov = torch.tensor([[-huge, huge, -tiny, tiny, 0.0, -1.0, 1.0]])
    order = [1, 6, 3, 4, 2, 5, 0]
    for count in range(8):
        selected = ops.select_top(cov, torch.ones(1, 7), 0.0, minimum=count, **kwargs)
        assert places(selected) == set(order[:count])


@pytest.mark.parametrize("tokens", [1, 31, 32, 1000, 20_011])
@pytest.mark.parametrize("fraction", [0.0002, 0.002, 0.02, 0.5])
def test_top_of_larger_batches(kwargs: dict, tokens: int, fraction: float) -> None:
    generator = torch.Generator().manual_seed(tokens)
    cov = torch.randn(tokens, generator=generator) ** 3
    cov[torch.rand(tokens, generator=generator) < 0.3] = cov.max() / 2
    mask = torch.rand(tokens, generator=generator) < 0.7
    quota = min(int(mask.sum()), max(1, int(mask.sum()) * round(fraction * 10_000) // 10_000))
    assert places(ops.select_top(cov, mask, fraction, **kwargs)) == chosen_places(cov, mask, quota)


def test_large_masked_values_do_not_crowd_out_the_largest() -> None:
    # The groups with the largest maxima are all masked: the shortcut must notice and look at everything.
    cov = torch.arange(4096.0)
    mask = cov < 1000
    assert places(ops.select_top(cov, mask, 0.005, implementation="torch")) == {995, 996, 997, 998, 999}


def test_the_largest_may_stand_in_the_last_incomplete_group() -> None:
    # 4100 is 128 groups of 32 and 4 tokens more.
    cov = torch.zeros(4100)
    cov[10], cov[4098], cov[4099] = 3.0, 5.0, 1.0
    assert places(ops.select_top(cov, torch.ones(4100), 0.0005, implementation="torch")) == {10, 4098}


@pytest.mark.parametrize(
    ("fraction", "tokens", "quota"), [(0.002, 1000, 2), (0.29, 100, 29), (0.57, 100, 57), (0.7, 10, 7), (1 / 3, 9, 3)]
)
def test_the_quota_is_exact(kwargs: dict, fraction: float, tokens: int, quota: int) -> None:
    cov = torch.arange(float(tokens))
    assert int(ops.select_top(cov, torch.ones(tokens), fraction, **kwargs).sum()) == quota
    drawn = ops.select_band(cov, torch.ones(tokens), fraction, -1.0, 1e6, **kwargs)
    assert int(drawn.sum()) == quota


# The band


def test_band_of_a_table(kwargs: dict) -> None:
    cov = torch.tensor([[1.0, 1.5, 5.0], [2.0, 3.0, 4.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    # Bounds are strict, so 1.0 and 5.0 are out; the 4.0 is masked, the 3.0 excluded.
    exclude = torch.tensor([[0, 0, 0], [0, 1, 0]])
    for excluded in (exclude, exclude.bool(), exclude.float()):
        assert places(ops.select_band(cov, mask, 1.0, 1.0, 5.0, exclude=excluded, **kwargs)) == {1, 3}
    assert places(ops.select_band(cov, mask, 1.0, 1.0, 5.0, **kwargs)) == {1, 3, 4}
    # N = 5 counts all unmasked tokens: floor(0.4 * 5) = 2 of the three candidates.
    assert int(ops.select_band(cov, mask, 0.4, 1.0, 5.0, **kwargs).sum()) == 2
    assert int(ops.select_band(cov, mask, 0.0, 1.0, 5.0, **kwargs).sum()) == 1
    assert not ops.select_band(cov, mask, 0.0, 1.0, 5.0, minimum=0, **kwargs).any()
    assert not ops.select_band(cov, mask, 1.0, 2.0, 2.0, **kwargs).any()


@given(batches(), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.integers(0, 2**31))
def test_every_way_draws_the_same_set(one_rank: dist.ProcessGroup, batch, fraction: float, seed: int) -> None:
    cov, mask = batch
    exclude = torch.rand(cov.shape, generator=torch.Generator().manual_seed(seed)) < 0.2
    low, high = -cov.abs().max().item() / 2, cov.abs().max().item() / 2
    candidates = mask & ~exclude & (cov > low) & (cov < high)
    draws = []
    for name in WAYS:
        generator = torch.Generator().manual_seed(seed)
        with way(name) as kwargs:
            draws.append(
                ops.select_band(cov, mask, fraction, low, high, exclude=exclude, generator=generator, **kwargs)
            )
    for drawn in draws:
        assert torch.equal(drawn, draws[0])
        assert not (drawn & ~candidates).any()
        assert int(drawn.sum()) == min(int(candidates.sum()), max(1, int(int(mask.sum()) * fraction)))


def test_padding_does_not_change_the_draw(kwargs: dict) -> None:
    cov = torch.randn(5, 11, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(5, 11, dtype=torch.bool)
    drawn = ops.select_band(cov, mask, 0.1, -1.0, 1.0, generator=torch.Generator().manual_seed(5), **kwargs)
    padding = torch.zeros(5, 4)
    padded = ops.select_band(
        torch.cat([cov, padding], 1),
        torch.cat([mask, padding.bool()], 1),
        0.1,
        -1.0,
        1.0,
        generator=torch.Generator().manual_seed(5),
        **kwargs,
    )
    assert torch.equal(padded[:, :11], drawn)
    assert drawn.sum() == 5


def test_draws_are_uniform_and_independent_of_place() -> None:
    # 4000 draws of 3 out of 12: each token 1000 times (standard deviation 27), each pair 4000 * 6 / 132 = 182 (sd 13).
    cov, mask = torch.zeros(12), torch.ones(12)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([ops.select_band(cov, mask, 0.25, -1.0, 1.0, generator=generator).float() for _ in range(4000)])
    assert (drawn.sum(1) == 3).all()
    together = drawn.T @ drawn
    assert (together.diagonal() - 1000).abs().max() < 4 * 27.4
    pairs = together[~torch.eye(12, dtype=torch.bool)]
    assert (pairs - 181.8).abs().max() < 4.5 * 13.2


def test_keys_of_candidates_are_distinct() -> None:
    keys = common.draw_keys(torch.arange(2**17), torch.tensor([12345, 2**32 - 1]))
    assert len(keys.unique()) == 2**17
    assert int(keys.min()) >= 1 and int(keys.max()) < 2**32


def test_the_generator_decides_the_draw() -> None:
    cov, mask = torch.zeros(2000), torch.ones(2000)

    def draw(seed: int) -> Tensor:
        return ops.select_band(cov, mask, 0.1, -1.0, 1.0, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    torch.manual_seed(3)
    first = ops.select_band(cov, mask, 0.1, -1.0, 1.0)
    second = ops.select_band(cov, mask, 0.1, -1.0, 1.0)
    torch.manual_seed(3)
    assert torch.equal(ops.select_band(cov, mask, 0.1, -1.0, 1.0), first)
    assert not torch.equal(first, second)


# What is not finite, and what does not fit


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["reference", "torch", "ranks"])
def test_selection_raises_on_what_is_not_finite(one_rank: dist.ProcessGroup, name: str, broken: float) -> None:
    cov = torch.arange(6.0).view(2, 3)
    cov[0, 1] = cov[1, 1] = broken
    with way(name) as kwargs:
        with pytest.raises(ValueError, match="2 unmasked"):
            ops.select_top(cov, torch.ones(2, 3), 0.5, **kwargs)
        with pytest.raises(ValueError, match="2 unmasked"):
            ops.select_band(cov, torch.ones(2, 3), 0.5, 0.0, 9.0, **kwargs)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_where_nothing_is_read_selection_from_what_is_not_finite_is_empty(broken: float) -> None:
    cov = torch.arange(6.0).view(2, 3)
    cov[0, 1] = broken
    with way("static") as kwargs:
        assert not ops.select_top(cov, torch.ones(2, 3), 0.5, **kwargs).any()
        assert not ops.select_band(cov, torch.ones(2, 3), 0.5, 0.0, 9.0, **kwargs).any()


def test_errors_name_the_value_and_the_remedy() -> None:
    cov, mask = torch.zeros(2, 3), torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"fraction is 2: pass a fraction"):
        ops.select_top(cov, mask, 2)
    with pytest.raises(ValueError, match=r"fraction is -0.1"):
        ops.select_band(cov, mask, -0.1, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"fraction is nan"):
        ops.select_top(cov, mask, float("nan"))
    with pytest.raises(ValueError, match=r"minimum is -1"):
        ops.select_top(cov, mask, 0.1, minimum=-1)
    with pytest.raises(ValueError, match=r"low is 2.0 and high is 1.0"):
        ops.select_band(cov, mask, 0.1, 2.0, 1.0)
    with pytest.raises(ValueError, match=r"cov \(2, 3\), mask \(2, 4\)"):
        ops.select_top(cov, torch.ones(2, 4), 0.1)
    with pytest.raises(ValueError, match=r"advantages of shape \(3, 3\)"):
        ops.token_covariance(cov, torch.zeros(3, 3), mask)
    with pytest.raises(ValueError, match=r"implementation is 'cuda': choose one of reference, torch, triton"):
        ops.select_top(cov, mask, 0.1, implementation="cuda")
    with pytest.raises(ValueError, match=r"computes in float32"):
        ops.select_top(cov.double(), mask, 0.1, implementation="triton")
    with pytest.raises(ValueError, match=r"runs on CUDA and the tensors are on cpu"):
        ops.select_top(cov, mask, 0.1, implementation="triton")
    with pytest.raises(ValueError, match=r"tensors are on cpu, meta"):
        ops.select_top(cov, mask.to("meta"), 0.1)


def test_the_context_forces_an_implementation(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    for module in (ops.reference, torch_ops):
        monkeypatch.setattr(module, "select_top", lambda *args, name=module.__name__: called.append(name))
    cov, mask = torch.zeros(2, 3), torch.ones(2, 3)
    ops.select_top(cov, mask, 0.1)
    with ops.implementation("reference"):
        ops.select_top(cov, mask, 0.1)
        ops.select_top(cov, mask, 0.1, implementation="torch")
        with pytest.raises(ValueError, match="implementation is 'fast'"), ops.implementation("fast"):
            pass
        ops.select_top(cov, mask, 0.1)
    ops.select_top(cov, mask, 0.1)
    assert [name.rsplit(".")[-1] for name in called] == [
        "torch_ops",
        "reference",
        "torch_ops",
        "reference",
        "torch_ops",
    ]


# Compiled


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles_without_a_graph_break(backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs, advantages = -torch.rand(6, 50, generator=generator), torch.randn(6, generator=generator)
    mask = torch.rand(6, 50, generator=generator) < 0.7
    torch._dynamo.reset()

    @torch.compile(fullgraph=True, backend=backend)
    def select(log_probs: Tensor, advantages: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cov = ops.token_covariance(log_probs, advantages, mask)
        return cov, ops.select_top(cov, mask, 0.02), ops.select_band(cov, mask, 0.02, -0.1, 0.1)

    cov, top, band = select(log_probs, advantages, mask)
    expected = ops.token_covariance(log_probs, advantages, mask, implementation="reference")
    assert torch.equal(cov, expected)
    assert torch.equal(top, ops.select_top(expected, mask, 0.02, implementation="reference"))
    assert int(band.sum()) == int(mask.sum()) // 50
    assert not (band & ~(mask & (cov.abs() < 0.1))).any()
    log_probs[0, 0], mask[0, 0] = float("nan"), True
    cov, top, band = select(log_probs, advantages, mask)
    assert cov[mask].isnan().all() and not top.any() and not band.any()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda array, t: ops.token_covariance(array, t, t), "log_probs"),
        (lambda array, t: ops.token_covariance(t, array, t), "advantages"),
        (lambda array, t: ops.token_covariance(t, t, array), "mask"),
        (lambda array, t: ops.select_top(array, t, 0.5), "cov"),
        (lambda array, t: ops.select_band(t, t, 0.5, 0.0, 1.0, exclude=array), "exclude"),
        (lambda array, t: ops.vocab_covariance(array, t), "logits"),
        (lambda array, t: ops.vocab_covariance(t, t, mask=array[0]), "mask"),
        (lambda array, t: ops.linear_vocab_covariance(t, array, t, t), "weight"),
        (lambda array, t: ops.linear_vocab_covariance(t, t, t, t, next_bias=array[0]), "next_bias"),
    ],
)
def test_an_array_is_named_as_what_it_is(call, name) -> None:
    tensor = torch.rand(2, 2)
    with pytest.raises(TypeError, match=rf"^{name} is a numpy.ndarray: pass a torch tensor, by torch.from_numpy"):
        call(tensor.numpy(), tensor)
