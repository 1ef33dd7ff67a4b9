"""A Sphinx extension: equations are set as MathML when the book is built, and browsers draw them without a script."""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

# TeX puts a thin space between a function's name and an argument without brackets.
BARE_ARGUMENT = re.compile(r"(<mi>(?:log|exp)</mi>)(?=<m(?:i|sub|sup|over)\b)")
# A minus that nothing stands before is a sign and not a difference.
SIGN = re.compile(r"((?:<mrow>|<mo>[=≈(]</mo>|<mo>&#x0(?:003D|2248|0028);</mo>))<mo>&#x02212;</mo>")


def mathml(latex: str, *, display: str = "inline") -> str:
    """A formula as a `math` element; the LaTeX is kept as its annotation for readers that copy it.

    Args:
        latex: of the subset that latex2mathml knows.
        display: `inline` or `block`.

    Raises:
        ValueError: a command that it does not know, which it would show as text.
    """
    drawn = convert(latex, display=display)
    if unknown := re.search(r"\\[a-zA-Z]+", re.sub(r"<[^>]+>", "", drawn)):
        raise ValueError(f"{latex!r}: {unknown.group()} is not known; write the formula without it")
    drawn = BARE_ARGUMENT.sub(r'\1<mspace width="0.17em" />', drawn)
    return SIGN.sub(r'\1<mo form="prefix">&#x02212;</mo>', drawn)


def _inline(writer: HTML5Translator, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def _display(writer: HTML5Translator, node: nodes.math_block) -> None:
    writer.body.append(writer.starttag(node, "div", CLASS="math notranslate"))
    if node["number"]:
        number = get_node_equation_number(writer, node)
        writer.body.append(f'<span class="eqno">({number})')
        writer.add_permalink_ref(node, "Link to this equation")
        writer.body.append("</span>")
    writer.body.append(mathml(node.astext(), display="block"))
    writer.body.append("</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer; `html_math_renderer = "mathml"` chooses it."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
