"""The metrics of an optimizer step against tables worked by hand and NumPy, on the device and without reading it."""

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from repro.ops import select_band, select_top, token_covariance
from repro.trainer.monitor import TOP_FRACTIONS, Selection, StepMonitor


class Recorder:
    """An accelerator of one process whose optimizer step ends when the test says."""

    num_processes, device = 1, torch.device("cpu")

    def __init__(self):
        self.sync_gradients = True

    def gather(self, tensor):
        return tensor


def tensors(*rows):
    return tuple(torch.tensor(row) for row in rows)


def observe(monitor, parts, last=True, **more):
    monitor.accelerator.sync_gradients = last
    monitor.observe(1, *parts, torch.zeros(parts[0].shape, dtype=torch.long), **more)


# Two responses, of 2 tokens and of 1; the masked place holds what must not be read.
NAN = math.nan
LOG_PROBS, ENTROPIES, MASK = tensors([[-1.0, -3.0], [-2.0, NAN]], [[0.5, 1.5], [4.0, NAN]], [[1, 1], [1, 0]])
ADVANTAGES = torch.tensor([1.0, -1.0])


def test_hand_made_step():
    """Tokens: log p -1, -3, -2 (mean -2), A 1, 1, -1 (mean 1/3): covariances 2/3, -2/3, 0. H: 1 and 4 per response."""
    monitor = StepMonitor(Recorder())
    observe(monitor, (LOG_PROBS, ENTROPIES, ADVANTAGES, MASK))
    (metrics,) = monitor.collect()
    assert metrics["entropy/token_mean"] == pytest.approx((0.5 + 1.5 + 4.0) / 3)
    assert metrics["entropy/response_mean"] == pytest.approx((1.0 + 4.0) / 2)
    assert metrics["covariance/mean"] == pytest.approx(0.0, abs=1e-7)
    # floor(0.5 x 3) = 1 token, and at least one for the smaller fractions.
    for fraction in TOP_FRACTIONS:
        assert metrics[f"covariance/top_{fraction:g}"] == pytest.approx(2 / 3)
    assert not [name for name in metrics if name.split("/")[0] in ("ratio", "selected", "penalty")]
    assert monitor.collect() == []


def test_hand_made_ratios():
    """Ratios 0.5, 2 and 1."""
    monitor = StepMonitor(Recorder())
    old = LOG_PROBS - torch.log(torch.tensor([[0.5, 2.0], [1.0, 1.0]]))
    observe(monitor, (LOG_PROBS, ENTROPIES, ADVANTAGES, MASK), old_log_probs=old)
    (metrics,) = monitor.collect()
    assert metrics["ratio/mean"] == pytest.approx(3.5 / 3)
    assert (metrics["ratio/min"], metrics["ratio/max"]) == (pytest.approx(0.5), pytest.approx(2.0))
    # ratio - 1 - log ratio: -0.5 + 0.6931, 1 - 0.6931, 0.
    assert metrics["ratio/kl"] == pytest.approx(0.5 / 3)


def test_hand_made_selection():
    """Selected: the first token of each response, p = exp(-1) = 0.37 and exp(-0.05) = 0.95, A 1 and -1."""
    monitor = StepMonitor(Recorder())
    selection = Selection(
        selected=torch.tensor([[True, False], [True, True]]),  # the last is masked and does not count
        covariance=torch.tensor([[0.5, 9.0], [1.5, NAN]]),
        log_probs=torch.tensor([[-1.0, -3.0], [-0.05, NAN]]),
        pool=torch.tensor(300),
        penalty=torch.tensor([[0.3, 0.0], [0.6, NAN]]),
    )
    observe(monitor, (LOG_PROBS, ENTROPIES, ADVANTAGES, MASK), selection=selection)
    (metrics,) = monitor.collect()
    assert metrics["selected/count"] == 2
    assert metrics["selected/fraction"] == pytest.approx(2 / 3)
    assert metrics["selected/pool"] == 300
    assert metrics["selected/positive_advantage"] == 0.5
    assert metrics["selected/covariance"] == pytest.approx(1.0)
    assert metrics["penalty/mean"] == pytest.approx(0.3)
    shares = {name: metrics[f"selected/probability_{name}"] for name in ("below_0.1", "0.1_to_0.5", "0.5_to_0.9")}
    assert shares == {"below_0.1": 0.0, "0.1_to_0.5": 0.5, "0.5_to_0.9": 0.0}
    assert metrics["selected/probability_above_0.9"] == 0.5


def random_step(rows=16, length=50, seed=0):
    draw = torch.Generator().manual_seed(seed)
    log_probs = -torch.rand(rows, length, generator=draw).exp()
    entropies = torch.rand(rows, length, generator=draw)
    advantages = torch.randn(rows, generator=draw)
    mask = torch.arange(length) < torch.randint(0, length + 1, (rows, 1), generator=draw)
    return log_probs, entropies, advantages, mask.long()


def test_table_1_against_numpy():
    log_probs, _, advantages, mask = step = random_step(rows=64, length=100)
    monitor = StepMonitor(Recorder())
    observe(monitor, step)
    (metrics,) = monitor.collect()
    keep = mask.numpy().astype(bool)
    lp = log_probs.double().numpy()[keep]
    a = advantages.double().unsqueeze(1).expand(mask.shape).numpy()[keep]
    cov = np.sort((lp - lp.mean()) * (a - a.mean()))[::-1]
    assert len(cov) > 2500
    assert metrics["covariance/mean"] == pytest.approx(cov.mean(), rel=1e-4)
    for fraction in TOP_FRACTIONS:
        count = max(1, int(fraction * len(cov)))
        assert metrics[f"covariance/top_{fraction:g}"] == pytest.approx(cov[:count].mean(), rel=1e-4), fraction


def test_a_fifth_of_five_tokens_is_one():
    """0.2 * 5 in floating point must not be floored to 0, nor 0.5 * 4 to 1."""
    monitor = StepMonitor(Recorder())
    log_probs = -torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]])
    observe(monitor, (log_probs, log_probs, torch.tensor([[1.0] * 5 + [-1.0] * 5]), torch.ones(1, 10)))
    (metrics,) = monitor.collect()
    # Centred log p 4.5 ... -4.5 times A 1 or -1: covariances 4.5, 3.5, 2.5, 1.5, 0.5 twice each.
    assert metrics["covariance/top_0.2"] == pytest.approx(4.5)
    assert metrics["covariance/top_0.5"] == pytest.approx((4.5 + 4.5 + 3.5 + 3.5 + 2.5) / 5)


@pytest.mark.parametrize("size", [1, 4, 8])
def test_micro_batches_add_up(size):
    log_probs, entropies, advantages, mask = random_step()
    old = log_probs + 0.3 * torch.randn(log_probs.shape, generator=torch.Generator().manual_seed(1))
    cov = token_covariance(log_probs, advantages, mask)
    selected = select_top(cov, mask, 0.1)
    whole, split = StepMonitor(Recorder()), StepMonitor(Recorder())

    def part(rows):
        selection = Selection(selected[rows], cov[rows], old[rows], torch.tensor(77), (log_probs - old).abs()[rows])
        return {"old_log_probs": old[rows], "selection": selection}

    observe(whole, (log_probs, entropies, advantages, mask), **part(slice(None)))
    for start in range(0, 16, size):
        rows = slice(start, start + size)
        values = tuple(value[rows] for value in (log_probs, entropies, advantages, mask))
        observe(split, values, last=start + size == 16, **part(rows))
    (expected,), (found,) = whole.collect(), split.collect()
    assert found == pytest.approx(expected, rel=1e-6)
    assert expected["selected/count"] == int(0.1 * mask.sum())


def test_all_masked_step():
    monitor = StepMonitor(Recorder())
    observe(monitor, (LOG_PROBS, ENTROPIES, ADVANTAGES, torch.zeros(2, 2)))
    (metrics,) = monitor.collect()
    assert len(metrics) == 8 and all(map(math.isnan, metrics.values()))
    selection = Selection(torch.zeros(2, 2) > 0, LOG_PROBS, LOG_PROBS, torch.tensor(0))
    observe(
        monitor,
        (LOG_PROBS, ENTROPIES, ADVANTAGES, torch.zeros(2, 2)),
        old_log_probs=LOG_PROBS,
        selection=selection,
    )
    (metrics,) = monitor.collect()
    assert {name: value for name, value in metrics.items() if not math.isnan(value)} == {
        "selected/count": 0,
        "selected/pool": 0,
    }


def test_several_steps_are_collected_at_once_in_order():
    monitor = StepMonitor(Recorder())
    for scale in (1.0, 2.0, 3.0):
        observe(monitor, (LOG_PROBS, scale * ENTROPIES, ADVANTAGES, MASK))
    assert [metrics["entropy/token_mean"] for metrics in monitor.collect()] == pytest.approx([2.0, 4.0, 6.0])


def test_state_survives_a_checkpoint():
    monitor, other = StepMonitor(Recorder(), sample_every=1, sample_size=2), StepMonitor(Recorder())
    observe(monitor, (LOG_PROBS, ENTROPIES, ADVANTAGES, MASK))
    other.load_state_dict(monitor.state_dict())
    assert other.samples == monitor.samples and len(other.samples) == 1
    assert other.collect() == monitor.collect() != []


def test_nothing_is_read_from_the_device():
    """Meta tensors have no values: any ``.item()``, ``nonzero`` or copy raises, and only collecting does one."""
    monitor = StepMonitor(Recorder(), sample_every=1, sample_size=2)
    log_probs, entropies = (torch.rand(4, 8, device="meta") for _ in range(2))
    mask, advantages = torch.ones(4, 8, device="meta"), torch.rand(4, device="meta")
    cov = token_covariance(log_probs, advantages, mask)
    for selected in (select_top(cov, mask, 0.1), select_band(cov, mask, 0.1, 0.0, 1.0)):
        selection = Selection(selected, cov, log_probs, mask.sum(), log_probs)
        ids = torch.zeros(4, 8, device="meta", dtype=torch.long)
        monitor.observe(1, log_probs, entropies, advantages, mask, ids, old_log_probs=entropies, selection=selection)
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        monitor.collect()


def test_works_with_an_accelerator():
    monitor = StepMonitor(Accelerator(cpu=True))
    monitor.observe(1, LOG_PROBS, ENTROPIES, ADVANTAGES, MASK, torch.zeros(2, 2, dtype=torch.long))
    assert monitor.collect()[0]["entropy/token_mean"] == pytest.approx(2.0)
