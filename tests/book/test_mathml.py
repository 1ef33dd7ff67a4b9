"""Equations become MathML, with the spaces that TeX would put and nothing left over."""

import re

import pytest

from repro import paths
from repro.book.mathml import mathml


def formulas() -> list[str]:
    pages = [*(paths.root() / "book").rglob("*.md"), *(paths.root() / "notebooks").glob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in pages]
    blocks = (r"(?<![$\\])\$([^$\n]+)\$(?!\$)", r"\$\$(.+?)\$\$", r"```\{math\}\n(?::.*\n)*(.+?)```")
    return sorted({found for text in texts for block in blocks for found in re.findall(block, text, re.DOTALL)})


def test_every_formula_of_the_book_is_known():
    found = formulas()
    assert len(found) > 40
    for latex in found:
        assert mathml(latex).startswith("<math")


def test_an_unknown_command_is_refused_and_named():
    with pytest.raises(ValueError, match=r"\\nosuchthing is not known"):
        mathml(r"a + \nosuchthing + b")


def test_a_functions_name_stands_apart_from_a_bare_argument():
    assert re.search(r"<mi>log</mi><mspace [^>]*/><mi>p</mi>", mathml(r"\log p"))
    assert re.search(r"<mi>log</mi><mspace [^>]*/><msub>", mathml(r"\log p_t"))
    assert not re.search(r"<mi>exp</mi><mspace [^>]*/><mo", mathml(r"\exp(x)"))


def test_a_sign_is_no_difference():
    assert mathml(r"R = -a").count('form="prefix"') == 1
    assert mathml("b - a").count('form="prefix"') == 0


def test_display_is_a_block():
    assert 'display="block"' in mathml("H", display="block")
