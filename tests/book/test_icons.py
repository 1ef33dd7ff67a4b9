"""Of the theme's icons a site keeps those that it shows."""

import importlib.util
import shutil
from pathlib import Path

from fontTools.ttLib import TTFont

from repro.book import icons

FONT = Path("_static/vendor/fontawesome/webfonts/fa-solid-900.woff2")
SHEET = (
    '.fa-sun:before{content:"\\f185"}.fa-moon:before,.fa-night:before{content:"\\f186"}.fa-fish:before{content:"\\f578"}'
    ".note{color:red}.note:before{content:'\uf0eb'}.more:before{content:\"\\f107\"}"
)


def test_a_site_keeps_the_icons_that_it_shows(tmp_path):
    theme = Path(importlib.util.find_spec("pydata_sphinx_theme").origin).parent / "theme/pydata_sphinx_theme/static"
    (tmp_path / FONT).parent.mkdir(parents=True)
    shutil.copy(theme / FONT.relative_to("_static"), tmp_path / FONT)
    (tmp_path / "theme.css").write_text(SHEET, encoding="utf-8")
    (tmp_path / "index.html").write_text('<i class="fa-solid fa-sun"></i>')
    (tmp_path / "switch.js").write_text("button.classList.add('fa-night')")
    icons.slim(tmp_path)
    sheet = (tmp_path / "theme.css").read_text(encoding="utf-8")
    assert sheet == SHEET.replace('.fa-fish:before{content:"\\f578"}', "")
    glyphs = TTFont(tmp_path / FONT).getBestCmap()
    assert set(glyphs) == {0xF185, 0xF186, 0xF0EB, 0xF107}
    assert (tmp_path / FONT).stat().st_size < 4000
