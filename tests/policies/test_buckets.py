"""Buckets of length, and the gradient of a base policy's loss taken in them."""

import random

import pytest
import torch

from repro.policies import base, buckets
from repro.policies.family import make_model, make_tokenizer
from repro.tasks.countdown import COUNTDOWN


def test_buckets_cover_all_rows_and_tokens_and_leave_padding_out():
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(0, 10, (40,), generator=generator)
    last = torch.randint(12, 97, (40,), generator=generator)
    last[3] = 96
    place = torch.arange(96)
    mask = ((place >= first[:, None]) & (place < last[:, None])).long()
    parts = buckets.buckets(mask)
    assert len(parts) == 6  # 96 tokens at 16 a bucket
    # A row's bucket depends on the row alone.
    assert all(columns == slice(0, -(-int(last[row]) // 16) * 16) for rows, columns in parts for row in rows)
    assert sorted(torch.cat([rows for rows, _ in parts]).tolist()) == list(range(40))
    assert sum(int(mask[rows, columns].sum()) for rows, columns in parts) == int(mask.sum())
    computed = sum(mask[rows, columns].numel() for rows, columns in parts)
    assert int(mask.sum()) < computed < 0.8 * mask.numel()


def test_short_rows_stay_together():
    mask = torch.ones(5, buckets.SHORT).long()
    [(rows, columns)] = buckets.buckets(mask)
    assert rows.tolist() == [0, 1, 2, 3, 4] and columns == slice(None)


def test_the_gradient_in_buckets_is_that_of_the_whole_batch():
    tokenizer = make_tokenizer(COUNTDOWN)
    torch.manual_seed(0)
    model = make_model("sm3", tokenizer)
    rng = random.Random(0)
    texts = [COUNTDOWN.demonstration("standard", 0, index, rng, clean=True) for index in range(24)]
    batch = base._encode(tokenizer, texts)
    assert len(buckets.buckets(batch["attention_mask"])) > 3
    whole = model(**batch).loss
    expected = torch.autograd.grad(whole, list(model.parameters()))
    assert base._backward(model, batch) == pytest.approx(whole.item(), rel=1e-6)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)
