"""The paper's digitised curves, as the figures have them."""

import numpy as np
import pytest

from repro import paper


def test_fits_of_fig_1():
    table = paper.read_fits()
    assert table["model"].tolist() == ["0.5B", "1.5B", "3B", "7B", "32B"]
    np.testing.assert_allclose(table["ceiling"], table["b"] - table["a"], atol=1e-4)
    assert table.iloc[3][["size", "a", "b", "entropy_start"]].tolist() == pytest.approx([6.53, 0.2103, 0.5972, 0.551])


def test_curves_of_fig_8():
    table = paper.read_covariance()
    assert len(table) == 3072
    lines = {key: group.sort_values("step") for key, group in table.groupby(["panel", "series"])}
    assert {series for _, series in lines} == {"Cov", "minus_dH", "acc0.125", "acc0.5", "acc0.875"}
    # The covariance peaks at about 0.017 around step 150 and stays positive; that of hard prompts does not.
    covariance = lines["left", "Cov"]
    assert covariance["value"].max() == pytest.approx(0.017, abs=5e-4)
    assert covariance["value"].min() > 0 > lines["right", "acc0.125"]["value"].min()


def test_curves_of_fig_11():
    table = paper.read_methods()
    assert len(table) == 11020 and not table.isna().any(axis=None)
    final = table.sort_values("step").groupby(["size", "quantity", "method"])["value"].last()
    assert final["7B", "accuracy", "GRPO"] == pytest.approx(0.379, abs=0.0015)
    assert final["32B", "entropy", "GRPO"] == pytest.approx(0.026, abs=0.008)
    assert final["32B", "length", "KL-Cov"] == pytest.approx(3890, abs=60)


def test_validations_are_the_vertices_of_the_accuracy():
    table = paper.read_validations("32B", "GRPO")
    assert table["step"].tolist() == list(range(64, 1057, 32))
    at = table.set_index("step")
    assert at.loc[256, "accuracy"] == pytest.approx(0.405, abs=0.0015)
    assert at.loc[256, "entropy"] == pytest.approx(0.161, abs=0.008)
    assert at.loc[512, "entropy"] == pytest.approx(0.068, abs=0.008)
    assert len(paper.read_validations("32B", "GRPO", every=64)) == 16


def test_what_the_figure_lacks_is_named():
    with pytest.raises(ValueError, match="no 'PPO' at '7B'; sizes are 7B and 32B, methods GRPO, Clip-higher"):
        paper.read_validations("7B", "PPO")
    with pytest.raises(ValueError, match="every must be at least one gradient step, got 0"):
        paper.read_validations("7B", "GRPO", every=0)


def test_table_2():
    table = paper.read_results().set_index(["size", "method"])
    assert len(table) == 8
    assert table.loc[("32B", "KL-Cov"), paper.BENCHMARKS].tolist() == pytest.approx(
        [0.368, 0.308, 0.745, 0.846, 0.391, 0.49, 0.463]
    )
    assert table.loc[("7B", "GRPO"), "average"] == pytest.approx(0.386)
    assert table.loc[("7B", "Clip-Cov"), "plain"] == pytest.approx(0.41743, abs=1e-5)
    assert table.loc[("7B", "Clip-Cov"), "weighted"] == pytest.approx(0.40496, abs=1e-5)


def test_evaluated_responses_are_problems_times_samples():
    responses = paper.read_evaluated_responses()
    assert responses.sum() == 8844
    assert responses[["AIME24", "AMC", "MATH500"]].tolist() == [30 * 32, 83 * 32, 500]
