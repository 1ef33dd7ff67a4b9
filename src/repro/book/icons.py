"""The theme's icon font and its rules, cut down to the icons that a site shows: a quarter of a megabyte less."""

import re
from pathlib import Path

from fontTools import subset

RULE = re.compile(r"(?:\.fa-[a-z0-9-]+::?before,?)+\{content:\"[^\"]*\"\}")
NAME = re.compile(r"\bfa-[a-z0-9-]+")
# Icons have the private code points, which a style sheet writes as they are or escaped.
CODE = re.compile(r"[\ue000-\uf8ff]|\\[ef][0-9a-f]{3}\b")
FONTS = "_static/vendor/fontawesome/webfonts/*.woff2"


def slim(pages: Path) -> None:
    """Drop the rules of icons that no page or script of a built site names, and the glyphs that nothing is left of."""
    texts = [path.read_text(encoding="utf-8") for kind in ("*.html", "*.js") for path in pages.rglob(kind)]
    named = {name for text in texts for name in NAME.findall(text)}
    for sheet in pages.rglob("*.css"):
        text = RULE.sub(
            lambda rule: rule[0] if named.intersection(NAME.findall(rule[0])) else "", sheet.read_text(encoding="utf-8")
        )
        sheet.write_text(text, encoding="utf-8")
        texts.append(text)
    codes = {ord(code) if len(code) == 1 else int(code[1:], 16) for text in texts for code in CODE.findall(text)}
    options = subset.Options(flavor="woff2")
    for path in pages.glob(FONTS):
        with subset.load_font(path, options) as font:
            subsetter = subset.Subsetter(options)
            subsetter.populate(unicodes=codes)
            subsetter.subset(font)
            subset.save_font(font, path, options)
