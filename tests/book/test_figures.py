"""Figures hold the data they claim to show; captions say n and the interval; the digitised curve is as it was read."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from repro import claims, paper
from repro.analysis.intervals import t_interval
from repro.book import display
from repro.book.figures import collapse as figures
from repro.claims.curves import curve


@pytest.fixture
def claim():
    return claims.load_ledger().claim("collapse")


@pytest.fixture
def runs(make_run):
    return [make_run(seed) for seed in range(3)]


def lines(axes):
    """Drawn lines of data, thin before thick; marks at fixed fractions have two points."""
    return sorted((line for line in axes.lines if len(line.get_xdata()) > 2), key=lambda line: line.get_linewidth())


def test_every_seed_and_their_mean_are_drawn(runs):
    accuracy, entropy = figures.collapse(runs).axes
    for axes, quantity in ((accuracy, "accuracy"), (entropy, "entropy")):
        *thin, thick = lines(axes)
        curves = np.array([curve(run, quantity)[quantity] for run in runs])
        assert len(thin) == len(runs)
        for drawn in curves:
            assert any(np.allclose(line.get_ydata(), drawn) for line in thin)
        np.testing.assert_allclose(thick.get_ydata(), curves.mean(axis=0))
        np.testing.assert_allclose(thick.get_xdata(), curve(runs[0], quantity)["step"])


def test_the_band_is_the_t_interval(runs):
    axes = figures.collapse(runs).axes[0]
    curves = np.array([curve(run, "accuracy")["accuracy"] for run in runs])
    [band] = axes.collections
    low, high = np.array([t_interval(curves[:, step])[1:3] for step in range(curves.shape[1])]).T
    vertices = band.get_paths()[0].vertices
    for column, step in enumerate(curve(runs[0], "accuracy")["step"]):
        drawn = vertices[vertices[:, 0] == step, 1]
        assert drawn.min() == pytest.approx(low[column])
        assert drawn.max() == pytest.approx(high[column])


def test_the_papers_fractions_are_marked(runs):
    for axes in figures.collapse(runs).axes:
        marks = sorted(line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2)
        assert marks == pytest.approx([20, 80])  # 1/12 and 1/3 of 240 steps
        assert {text.get_text() for text in axes.texts} == {"1/12", "1/3"}


def test_one_seed_has_no_band_and_says_so(make_run):
    runs = [make_run()]
    for axes in figures.collapse(runs).axes:
        assert axes.get_legend().get_texts()[0].get_text() == "one seed"
        assert not any(band.get_paths() for band in axes.collections)
    assert "One seed, hence no interval." in figures.collapse_caption(runs)


def test_bars_are_the_findings(runs, claim):
    findings = {one.subclaim: one for one in claims.measure(claim, runs)}
    [axes] = figures.shares(claim, list(findings.values())).axes
    order = ["entropy_twelfth", "gain_twelfth", "entropy_third", "gain_third"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([100 * findings[one].estimate for one in order])
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["Entropy, 1/12", "Gain, 1/12", "Entropy, 1/3", "Gain, 1/3"]
    diamonds = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D" and len(line.get_xdata())]
    assert diamonds == pytest.approx([73, 76, 94, 93])
    dots = [line.get_xdata() for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    np.testing.assert_allclose(dots, [100 * np.array(findings[one].values) for one in order])


def test_a_share_without_an_effect_has_no_bar(make_run, claim):
    runs = [make_run(0), make_run(1, accuracy=lambda x: 0.4 + 0 * x)]
    [axes] = figures.shares(claim, claims.measure(claim, runs)).axes
    assert len(axes.patches) == 2
    figures.against_paper(runs).draw_without_rendering()


def test_against_paper_draws_shares_and_the_digitised_points(runs):
    gain, fall = figures.against_paper(runs).axes
    for axes in (gain, fall):
        thick = lines(axes)[-1]
        assert thick.get_ydata()[0] == pytest.approx(0)
        assert thick.get_ydata()[-1] == pytest.approx(100, abs=0.5)
    [points] = [container for container in fall.containers if container.get_label() == "paper, Fig. 1 (left)"]
    shares = dict(zip(*points.lines[0].get_data(), strict=True))
    # step 200 of 2500: (0.545 - 0.243) / (0.545 - 0.018) = 0.573
    assert shares[0.08] == pytest.approx(57.3, abs=0.05)


def test_the_digitised_curve():
    curve = paper.read_training().set_index("step")
    assert len(curve) == 13
    assert curve.loc[0].tolist() == [0.215, 0.545]
    assert curve.loc[2500].tolist() == [0.385, 0.018]
    assert curve["accuracy"].is_monotonic_increasing
    assert curve["entropy"].is_monotonic_decreasing


def test_captions_are_made_of_the_runs(runs, claim):
    caption = figures.collapse_caption(runs)
    assert "mean@8 over 256 fixed prompts" in caption
    assert "240 optimizer steps" in caption
    assert "n = 3 seeds" in caption
    assert "95 % Student t interval" in caption
    shares = figures.shares_caption(claim, claims.measure(claim, runs))
    assert "n = 3 seeds" in shares
    assert "95 % Student t interval" in shares
    assert "n = 1 seed;" in figures.shares_caption(claim, claims.measure(claim, runs[:1]))
    assert "n = 3 seeds" in figures.against_paper_caption(runs)


def test_figures_are_white_narrow_and_repeat_to_the_byte(runs, claim):
    def drawn():
        for figure in (
            figures.collapse(runs),
            figures.shares(claim, claims.measure(claim, runs)),
            figures.against_paper(runs),
        ):
            assert figure.get_facecolor() == to_rgba("white")
            assert figure.get_figwidth() <= 5
            yield display.svg(figure)

    first, second = list(drawn()), list(drawn())
    assert first == second
    assert all(re.search(r"<svg[^>]*viewBox", text) for text in first)
