"""Thinned records: smaller, and the same to whatever reads them."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from repro.claims.measures.controls import overlaps
from repro.claims.measures.covariance import first_tokens, sign_bound, top_negative_share
from repro.runs import keep


@pytest.fixture
def tokens() -> pd.DataFrame:
    """Two sampled steps of 8 sequences of 5 tokens, with all columns that training records."""
    rng = np.random.default_rng(0)
    frames = []
    for step in (1, 9):
        log_prob, advantage = -rng.exponential(size=40), np.repeat(rng.normal(size=8), 5)
        columns = {"log_prob": log_prob, "entropy": rng.random(40), "advantage": advantage}
        columns["covariance"] = (log_prob - log_prob.mean()) * (advantage - advantage.mean())
        frame = pd.DataFrame({"step": step, "sequence": np.repeat(np.arange(8), 5), "position": list(range(5)) * 8})
        frames.append(frame.assign(token="7", selected=False, **{k: v.astype(np.float32) for k, v in columns.items()}))
    return pd.concat(frames, ignore_index=True)


def test_what_is_left_out_is_what_it_says(tokens):
    thin = keep.thinned(tokens)
    left = ["covariance", "entropy"]
    pd.testing.assert_frame_equal(thin.drop(columns=left), tokens.drop(columns=left))
    pd.testing.assert_frame_equal(thin[left], tokens[left].where(tokens["step"] == tokens["step"].min()))
    assert thin["covariance"].notna().equals(tokens["step"] == 1)
    assert (thin["covariance"] == tokens["covariance"])[tokens["step"] == 1].all()
    pd.testing.assert_frame_equal(keep.thinned(pd.DataFrame()), pd.DataFrame())


def test_long_responses_keep_every_nth_step(tokens, monkeypatch):
    five = pd.concat([tokens.query("step == 1").assign(step=step) for step in (1, 5, 9, 13, 17)], ignore_index=True)
    for short, left in ((5, [1, 5, 9, 13, 17]), (4, [1, 9, 17]), (2, [1, 13])):
        monkeypatch.setattr(keep, "SHORT", short)
        thin = keep.thinned(five)
        assert list(thin["step"].unique()) == left and list(thin.index) == list(range(40 * len(left)))
        assert thin["covariance"].notna().equals(thin["step"] == 1)


def test_measures_of_tokens_are_the_same(tokens):
    full, thin = (SimpleNamespace(name="a run", tokens=table) for table in (tokens, keep.thinned(tokens)))
    assert sign_bound(full) == sign_bound(thin) > 0
    assert top_negative_share(full, fraction=0.2) == top_negative_share(thin, fraction=0.2) > 0
    assert first_tokens(full).equals(first_tokens(thin))
    sizes = {"sequences": 2, "fraction": 0.1}
    assert overlaps(full.tokens, **sizes) == overlaps(thin.tokens, **sizes) and len(overlaps(tokens, **sizes)) == 2
