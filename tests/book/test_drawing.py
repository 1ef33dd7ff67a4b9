"""Drawings in the page's theme, the numbers that they draw, and the looks that they share."""

import io
import re
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from repro import paths
from repro.book import drawing, exhibits, looks
from repro.book.figures import fixes
from repro.runs.profiles import load_profile


@pytest.fixture
def figure():
    figure = Figure()
    axes = figure.subplots()
    axes.set_title("Entropy", loc="left")
    axes.plot([1, 2], [0.5, 0.25], color=looks.HUES["blue"][0], label="KL-Cov")
    axes.fill_between([1, 2], [0.4, 0.2], [0.6, 0.3], color="0.5", label="_band")
    axes.hlines(0.1, 1, 3, color="#123456")
    axes.barh([0], [2.5], height=0.5)
    return figure


def test_a_drawing_takes_the_pages_colours_and_font_and_has_ids_of_its_own(figure):
    text = drawing.inline(drawing.svg(figure), 'Two "lines" & a band', "one")
    root = ET.fromstring(text)
    assert root.attrib["aria-label"] == 'Two "lines" & a band' and root.attrib["role"] == "img"
    assert "var(--hue-blue)" in text and looks.HUES["blue"][0] not in text
    assert "#123456" in text
    # 0.5 is a grey of 128: half of the ink.
    assert "color-mix(in srgb, var(--drawing-ink) 50%, var(--drawing-paper))" in text
    assert "#ffffff" not in text and "#000000" not in text
    assert "var(--drawing-font)" in text and "DejaVu" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert ids and all(one.startswith("one-") for one in ids)
    assert {one.removeprefix("#") for one in re.findall(r"url\((#[^)]+)\)", text)} <= set(ids)
    assert "<style" not in text and "<metadata" not in text


def test_coordinates_are_short_but_not_numbers_that_are_written():
    letter = '<g transform="translate(1.2345 6.78) scale(0.015625 -0.1)"/>'
    written = '<text x="3.14159">0.0001</text>'
    text = drawing.inline(f'<svg viewBox="0 0 9 9">{letter}{written}</svg>', "", "a")
    assert 'transform="translate(1.2 6.7) scale(0.015625 -0.1)"' in text
    assert '<text x="3.1">0.0001</text>' in text


def test_lines_are_written_by_steps_and_a_style_of_many_markers_once():
    line = '<path d="M 1.0 2.04\n    L 1.5 2.0\n  L 1.46 -3.25\n L 9.0 9.0\nz\n" style="a"/>'
    markers = "".join(f'<use xlink:href="#m" x="{x}" y="2" style="{style}"/>\n' for x, style in enumerate("aaab"))
    text = drawing.inline(f'<svg viewBox="0 0 9 9">\n{line}\n<g>\n{markers}</g>\n</svg>', "", "o")
    # 1.5 to 1.4 and 2.0 to -3.2 in tenths, as the points are written.
    assert 'd="M 1.0 2.0l.5 0-.1-5.2 7.6 12.2\nz' in text
    assert '<g style="a">\n<use href="#o-m" x="0" y="2"/>\n<use href="#o-m" x="1" y="2"/>\n' in text
    assert text.count('style="a"') == 2 and '</g>\n<use href="#o-m" x="3" y="2" style="b"/>' in text
    ET.fromstring(text)


def test_a_drawing_too_wide_for_a_phone_says_so():
    opening = [drawing.inline(f'<svg viewBox="0 0 {points} 9"></svg>', "", "a") for points in (360, 576)]
    assert ['class="drawing"' in opening[0], 'class="drawing wide"' in opening[1]] == [True, True]


def test_what_is_no_drawing_of_matplotlibs_is_refused():
    with pytest.raises(ValueError, match="one: the drawing has no viewBox"):
        drawing.inline("<svg/>", "", "one")


def test_the_numbers_of_a_figure_are_those_drawn(figure):
    table = drawing.numbers(figure)
    line, band, stretch, bar = (table[table["kind"] == kind] for kind in ("line", "band", "interval", "bar"))
    assert line[["panel", "series", "x", "y"]].values.tolist() == [
        ["Entropy", "KL-Cov", 1, 0.5],
        ["Entropy", "KL-Cov", 2, 0.25],
    ]
    assert band[["x", "low", "high"]].values.tolist() == [[1, 0.4, 0.6], [2, 0.2, 0.3]]
    assert stretch[["y", "low", "high"]].values.tolist() == [[0.1, 1, 3]]
    assert bar["x"].tolist() == [2.5]
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert again["series"].tolist()[:2] == ["KL-Cov", "KL-Cov"]


def test_a_method_has_one_look_and_no_two_share_it():
    assert len({(look.hue, look.marker) for look in looks.METHODS.values()}) == len(looks.METHODS)
    assert len({look.title for look in looks.METHODS.values()}) == len(looks.METHODS)
    assert looks.look("explore_kl_cov") is looks.look("kl_cov_fraction_05") is looks.METHODS["kl_cov"]
    assert looks.look("clip_cov_u2") is looks.METHODS["clip_cov"]
    assert looks.look("ref_01") is looks.METHODS["reference"]
    assert looks.look("grpo_u4") is looks.look("probe") is looks.METHODS["grpo"]


def test_arms_are_named_for_readers():
    assert looks.name("kl_cov_u2") == "KL-Cov, 2 updates a rollout"
    assert looks.name("single_clip_higher") == "Clip-higher, a single strategy"
    assert looks.names(["grpo", "grpo8", "prime"]) == "GRPO, PRIME"
    shown = {
        *fixes.METHODS,
        *exhibits.LAW_ARMS,
        exhibits.ROLLOUT_ARM,
        *(arm for _, arms in exhibits.CURVES.values() for arm in arms),
    }
    known = {
        arm
        for group in yaml.safe_load((paths.configs_dir() / "arms.yaml").read_text()).values()
        for arm in group["arms"]
    }
    assert shown <= known
    assert all(looks.name(arm) != arm for arm in shown)


@pytest.mark.parametrize("arm", ["scope_micro_4", "scope_micro_16"])
def test_an_arm_that_selects_within_micro_batches_is_named_by_their_size(arm):
    config = load_profile("cpu").configs(arm)[0]
    size = config.prompts_per_rollout * config.num_generations // config.steps_per_generation
    assert looks.name(arm) == f"KL-Cov, top of {size} sequences"


def test_the_sheet_has_every_hue_in_both_themes():
    sheet = looks.sheet()
    for hue, (on_light, on_dark) in looks.HUES.items():
        assert f"--hue-{hue}: {on_light};" in sheet and f"--hue-{hue}: {on_dark};" in sheet
