"""Covariance over the vocabulary: tables, laws, edges, and the fast implementation against float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from repro import ops
from repro.ops import torch_ops

settings.register_profile("ops", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("ops")


@pytest.fixture(params=["reference", "torch", "torch as on a device", "torch in small tiles"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The implementation to force; small tiles divide nothing, and on a device nothing is read on the host."""
    if request.param.endswith("small tiles"):
        monkeypatch.setattr(torch_ops, "TILE_ROWS", 3)
        monkeypatch.setattr(torch_ops, "TILE_COLUMNS", 5)
    if request.param.endswith("device"):
        monkeypatch.setattr(torch_ops, "may_read_values", lambda *tensors: False)
    return request.param.split()[0]


def heads(
    seed: int, rows: int, vocabulary: int, width: int = 8, scale: float = 1.0, dtype=torch.float32
) -> list[Tensor]:
    """hidden, weight, next_hidden, next_weight of two policies that are close."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    hidden, weight = draw(rows, width) * scale, draw(vocabulary, width)
    return [
        t.to(dtype) for t in (hidden, weight, hidden + 0.1 * draw(rows, width), weight + 0.1 * draw(vocabulary, width))
    ]


class Largest(TorchDispatchMode):
    """Number of elements of the largest tensor that an operation newly made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        owners = {t.untyped_storage().data_ptr() for t in args if isinstance(t, Tensor)}
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in owners:
            self.elements = max(self.elements, result.numel())
        return result


def test_a_table(name: str) -> None:
    # pi = (1/4, 3/4), x = (4, 0), E x = 1: E[x log pi] - E[x] E[log pi] = ln(1/4) - (ln(1/4) + 3 ln(3/4)) / 4.
    logits = torch.tensor([0.0, math.log(3.0)])
    cov = ops.vocab_covariance(logits, torch.tensor([4.0, 0.0]), implementation=name)
    assert cov.shape == ()
    assert cov.item() == pytest.approx(-0.75 * math.log(3.0), rel=1e-6)
    # Half the temperature squares the odds, (1/10, 9/10), and E x = 0.4: -0.9 * 0.4 * ln 9.
    half = ops.vocab_covariance(logits, torch.tensor([4.0, 0.0]), temperature=0.5, implementation=name)
    assert half.item() == pytest.approx(-0.36 * math.log(9.0), rel=1e-6)


def test_a_table_of_heads(name: str) -> None:
    # One hidden unit of value 1: the weights are the logits. pi = (1/4, 3/4), pi' = (1/2, 1/2), change (0, -ln 3).
    one = torch.ones(1, 1)
    cov, entropy, next_entropy = ops.linear_vocab_covariance(
        one, torch.tensor([[0.0], [math.log(3.0)]]), one, torch.zeros(2, 1), implementation=name
    )
    assert cov.item() == pytest.approx(-3 / 16 * math.log(3.0) ** 2, rel=1e-6)
    assert entropy.item() == pytest.approx(math.log(4.0) - 0.75 * math.log(3.0), rel=1e-6)
    assert next_entropy.item() == pytest.approx(math.log(2.0), rel=1e-6)


def test_covariance_is_the_first_order_change_of_entropy() -> None:
    # Lemma 1: H' - H + Cov falls with the square of the step, and the entropies are those of the two policies.
    hidden, weight, _, direction = heads(0, 6, 31, dtype=torch.float64)
    errors = []
    for step in (1e-2, 1e-3):
        cov, entropy, next_entropy = ops.linear_vocab_covariance(hidden, weight, hidden, weight + step * direction)
        errors.append((next_entropy - entropy + cov).abs().max().item())
        for h, w in ((entropy, weight), (next_entropy, weight + step * direction)):
            assert torch.allclose(h, torch.distributions.Categorical(logits=hidden @ w.T).entropy())
    assert 0 < errors[1] < errors[0] / 50


@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 7),
    vocabulary=st.integers(1, 40),
    scale=st.sampled_from([0.0, 0.3, 3.0, 30.0]),
    temperature=st.sampled_from([0.6, 1.0, 1.7]),
    softcap=st.sampled_from([None, 5.0]),
    bias=st.booleans(),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
@pytest.mark.parametrize("size", [(3, 5), (256, 2048)])
def test_error_is_no_larger_than_that_of_plain_torch(
    size: tuple[int, int],
    seed: int,
    rows: int,
    vocabulary: int,
    scale: float,
    temperature: float,
    softcap: float | None,
    bias: bool,
    dtype: torch.dtype,
) -> None:
    inputs = heads(seed, rows, vocabulary, scale=scale, dtype=dtype)
    settings = {"temperature": temperature, "softcap": softcap}
    biases = {}
    if bias:
        b = torch.randn(vocabulary, generator=torch.Generator().manual_seed(seed)).to(dtype)
        biases = {"bias": b, "next_bias": b * 0.5}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_ops, "TILE_ROWS", size[0])
        patch.setattr(torch_ops, "TILE_COLUMNS", size[1])
        fast = ops.linear_vocab_covariance(*inputs, **settings, **biases, implementation="torch")
    plain = ops.linear_vocab_covariance(*inputs, **settings, **biases, implementation="reference")
    wide = {key: value.double() for key, value in biases.items()}
    truth = ops.linear_vocab_covariance(*(t.double() for t in inputs), **settings, **wide, implementation="reference")
    # Slack: products of logits of up to 8 * scale are rounded at eps of the dtype of the computation.
    slack = 64 * torch.finfo(fast[0].dtype).eps * (1 + 8 * scale) / temperature
    for got, expected, exact in zip(fast, plain, truth, strict=True):
        assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert (got - exact).abs().max() <= 2 * (expected - exact).abs().max() + slack


@given(seed=st.integers(0, 2**31), shift=st.floats(-80, 80), factor=st.sampled_from([-2.0, 0.5, 0.0]))
def test_laws_of_covariance(seed: int, shift: float, factor: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, x = torch.randn(5, 23, generator=generator).double() * 3, torch.randn(5, 23, generator=generator).double()
    order = torch.randperm(23, generator=generator)
    cov = ops.vocab_covariance(logits, x)
    assert torch.allclose(ops.vocab_covariance(logits + shift, x), cov, atol=1e-10)
    assert torch.allclose(ops.vocab_covariance(logits, x + shift), cov, atol=1e-10)
    assert torch.allclose(ops.vocab_covariance(logits, x * factor), cov * factor, atol=1e-10)
    assert torch.allclose(ops.vocab_covariance(logits[:, order], x[:, order]), cov, atol=1e-10)
    assert torch.allclose(ops.vocab_covariance(logits, torch.ones_like(x)), torch.zeros(5).double(), atol=1e-10)
    assert torch.allclose(ops.vocab_covariance(torch.full_like(logits, 3.0), x), torch.zeros(5).double(), atol=1e-10)
    # The variance of the log-probability.
    log_probs = torch.log_softmax(logits, -1)
    mean = (log_probs.exp() * log_probs).sum(-1, keepdim=True)
    variance = (log_probs.exp() * (log_probs - mean) ** 2).sum(-1)
    assert torch.allclose(ops.vocab_covariance(logits, logits), variance, atol=1e-10)


def test_far_from_zero_nothing_cancels(name: str) -> None:
    # Logits near 1e4 and x near -1e4, each with a spread of 2: in float32 E[zx] - E[z]E[x] would be off by 6 or so.
    generator = torch.Generator().manual_seed(0)
    logits, x = torch.randint(-3, 4, (4, 50), generator=generator), torch.randint(-3, 4, (4, 50), generator=generator)
    far = ops.vocab_covariance(logits + 1e4, x - 1e4, implementation=name)
    assert torch.allclose(far, ops.vocab_covariance(logits.float(), x.float()), atol=1e-3)


def test_peaked_and_single_token_policies_have_no_covariance(name: str) -> None:
    logits = torch.zeros(2, 9)
    logits[:, 4] = 1e4
    assert torch.equal(ops.vocab_covariance(logits, torch.randn(2, 9), implementation=name), torch.zeros(2))
    one, width = torch.randn(3, 1), 4
    assert torch.equal(ops.vocab_covariance(one, one * 7, implementation=name), torch.zeros(3))
    results = ops.linear_vocab_covariance(
        torch.randn(3, width), torch.randn(1, width), torch.randn(3, width), torch.randn(1, width), implementation=name
    )
    for result in results:
        assert torch.equal(result, torch.zeros(3))


def test_impossible_tokens_contribute_nothing(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, x = torch.randn(3, 20, generator=generator), torch.randn(3, 20, generator=generator)
    expected = ops.vocab_covariance(logits[:, 8:], x[:, 8:], implementation=name)
    logits[:, :8] = -torch.inf
    for garbage in (1.0, float("inf"), float("nan")):
        x[:, :8] = garbage
        assert torch.allclose(ops.vocab_covariance(logits, x, implementation=name), expected, atol=1e-7)
    # Heads with such a bias: tokens of the vocabulary's padding, say.
    hidden, weight, next_hidden, next_weight = heads(0, 3, 20)
    bias = torch.zeros(20)
    bias[:8] = -torch.inf
    masked = ops.linear_vocab_covariance(
        hidden, weight, next_hidden, next_weight, bias=bias, next_bias=bias, implementation=name
    )
    cut = ops.linear_vocab_covariance(hidden, weight[8:], next_hidden, next_weight[8:], implementation=name)
    for got, expected in zip(masked, cut, strict=True):
        assert torch.allclose(got, expected, atol=1e-6)
    # Impossible only for the next policy: its entropy stands, the change of logits is infinite.
    cov, entropy, next_entropy = ops.linear_vocab_covariance(
        hidden, weight, next_hidden, next_weight, next_bias=bias, implementation=name
    )
    assert not torch.isfinite(cov).any()
    assert torch.isfinite(entropy).all()
    assert torch.allclose(next_entropy, cut[2], atol=1e-6)


def test_what_is_not_finite_stays_in_its_row(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, x = torch.randn(5, 20, generator=generator), torch.randn(5, 20, generator=generator)
    clean = ops.vocab_covariance(logits, x, implementation=name)
    logits[0, 3], logits[1], logits[2, 19], x[3, 0] = float("nan"), -torch.inf, torch.inf, float("nan")
    cov = ops.vocab_covariance(logits, x, implementation=name)
    assert cov[:4].isnan().all()
    assert cov[4] == clean[4]


def test_masked_rows_are_zero_whatever_they_hold(name: str) -> None:
    inputs = heads(0, 6, 20)
    clean = ops.linear_vocab_covariance(*inputs, implementation=name)
    mask = torch.tensor([1, 0, 1, 1, 0, 1])
    inputs[0][mask == 0] = float("nan")
    inputs[2][mask == 0] = float("inf")
    for kept in (mask, mask.bool(), mask.float()):
        results = ops.linear_vocab_covariance(*inputs, mask=kept, implementation=name)
        for got, expected in zip(results, clean, strict=True):
            assert torch.equal(got, torch.where(mask == 0, 0.0, expected))
    logits = torch.randn(2, 3, 7)
    logits[1, 2] = float("nan")
    rows = torch.ones(2, 3)
    rows[1, 2] = 0
    cov = ops.vocab_covariance(logits, torch.randn(2, 3, 7), mask=rows, implementation=name)
    assert cov[1, 2] == 0 and torch.isfinite(cov).all()


def test_shapes_and_layouts(name: str) -> None:
    hidden, weight, next_hidden, next_weight = heads(0, 12, 20)
    expected = ops.linear_vocab_covariance(hidden, weight, next_hidden, next_weight, implementation=name)
    # [2, 3, 2, H] from a transposed tensor, weights that are columns of a wider matrix, next policy of another width.
    turned = hidden.T.contiguous().T.view(2, 3, 2, 8)
    wide = torch.randn(20, 16)
    wide[:, ::2] = weight
    padded = torch.cat([next_hidden, torch.zeros(12, 3)], 1).view(2, 3, 2, 11)
    results = ops.linear_vocab_covariance(
        turned, wide[:, ::2], padded, torch.cat([next_weight, torch.randn(20, 3)], 1), implementation=name
    )
    for got, flat in zip(results, expected, strict=True):
        assert got.shape == (2, 3, 2)
        assert torch.allclose(got.flatten(), flat, atol=1e-6)
    logits, x = torch.randn(7, 6), torch.randn(7, 6)
    cov = ops.vocab_covariance(logits.T, x.T, implementation=name)
    assert torch.allclose(cov, ops.vocab_covariance(logits.T.contiguous(), x.T.contiguous()), atol=1e-6)
    assert ops.vocab_covariance(torch.zeros(0, 5), torch.zeros(0, 5), implementation=name).shape == (0,)
    for result in ops.linear_vocab_covariance(
        torch.zeros(0, 8), weight, torch.zeros(0, 8), next_weight, implementation=name
    ):
        assert result.shape == (0,)


def test_inputs_are_left_alone(name: str) -> None:
    inputs = heads(0, 6, 20)
    before = [t.clone() for t in inputs]
    ops.linear_vocab_covariance(*inputs, softcap=3.0, temperature=0.5, implementation=name)
    logits, x = torch.randn(3, 20), torch.randn(3, 20)
    kept = logits.clone(), x.clone()
    ops.vocab_covariance(logits, x, implementation=name)
    for now, then in zip([*inputs, logits, x], [*before, *kept], strict=True):
        assert torch.equal(now, then)


def test_no_temporary_is_as_large_as_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_ops, "TILE_ROWS", 16)
    monkeypatch.setattr(torch_ops, "TILE_COLUMNS", 256)
    hidden, weight, next_hidden, next_weight = heads(0, 64, 3000)
    logits, x = torch.randn(64, 3000), torch.randn(64, 3000)
    with Largest() as largest:
        ops.linear_vocab_covariance(hidden, weight, next_hidden, next_weight)
        ops.vocab_covariance(logits, x)
    # Five tiles of scratch.
    assert 0 < largest.elements <= 5 * 16 * 256


def test_errors_name_the_value_and_the_remedy() -> None:
    hidden, weight, next_hidden, next_weight = heads(0, 6, 20)
    with pytest.raises(ValueError, match=r"logits \(2, 3\), x \(2, 4\)"):
        ops.vocab_covariance(torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"temperature is 0"):
        ops.vocab_covariance(torch.zeros(2, 3), torch.zeros(2, 3), temperature=0)
    with pytest.raises(ValueError, match=r"softcap is -1"):
        ops.linear_vocab_covariance(hidden, weight, next_hidden, next_weight, softcap=-1)
    with pytest.raises(ValueError, match=r"next_hidden \(6, 8\), next_weight \(20, 4\)"):
        ops.linear_vocab_covariance(hidden, weight, next_hidden, next_weight[:, :4])
    with pytest.raises(ValueError, match=r"bias \(3,\)"):
        ops.linear_vocab_covariance(hidden, weight, next_hidden, next_weight, bias=torch.zeros(3))
    with pytest.raises(ValueError, match=r"20 and 19 entries"):
        ops.linear_vocab_covariance(hidden, weight, next_hidden, next_weight[:19])
    with pytest.raises(ValueError, match=r"\(6,\) and \(5,\) tokens"):
        ops.linear_vocab_covariance(hidden, weight, next_hidden[:5], next_weight)
    with pytest.raises(ValueError, match=r"mask of shape \(5,\)"):
        ops.linear_vocab_covariance(hidden, weight, next_hidden, next_weight, mask=torch.ones(5))


def test_compiles_without_a_graph_break() -> None:
    torch._dynamo.reset()
    inputs = heads(0, 6, 20)
    compiled = torch.compile(ops.linear_vocab_covariance, fullgraph=True, backend="aot_eager")
    for got, expected in zip(
        compiled(*inputs, softcap=3.0), ops.linear_vocab_covariance(*inputs, softcap=3.0), strict=True
    ):
        assert torch.allclose(got, expected, atol=1e-6)
    torch._dynamo.reset()
    logits, x = torch.randn(4, 20), torch.randn(4, 20)
    cov = torch.compile(ops.vocab_covariance, fullgraph=True, backend="aot_eager")(logits, x)
    assert torch.allclose(cov, ops.vocab_covariance(logits, x), atol=1e-6)
