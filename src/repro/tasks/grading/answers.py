r"""Finding the answer in a completion, and the text that is left of it when notation is set aside.

All of it is linear in the text, whatever the text is.
"""

import re
import unicodedata

ANSWER_LONGEST = 2000
"""Characters that an answer may have; a longer one is not found."""
TAIL = 4000
"""Characters at the end of a completion among which the lenient score looks."""
BOXES = 8
"""Boxes that are tried, the last first, until one is closed."""

_BOX = re.compile(r"\\f?box(?:ed)?\s*\{")
_UNBRACED_BOX = re.compile(r"\\boxed\s+([^\s${}]{1,100})")
_BRACE = re.compile(r"\\[{}\\]|[{}]")
_NUMBER = re.compile(r"(?<![\w.])-?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:/[0-9]+)?")
_MARKERS = re.compile(r"####|\banswer(?:\s+is)?\s*:|\banswer\s+is\b", re.IGNORECASE)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_SPANS = (("\\)", "\\("), ("\\]", "\\["), ("$", "$"))

_THOUSANDS = re.compile(r"-?[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+(?:\.[0-9]+)?")
_SCIENTIFIC = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)[eE]([-+]?[0-9]{1,3})")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|textit)\s*\{([^{}]*)\}")
_SILENT = re.compile(r"(\\\\)|\\(?:left|right|displaystyle)(?![A-Za-z])|\\?\$|\\[!,;:> ]|~")
_FRACTION = re.compile(r"\\[dt]frac(?![A-Za-z])")
_SIGNS = str.maketrans(
    {"\u2212": "-", "\u00d7": r"\times ", "\u03c0": r"\pi ", "\u221e": r"\infty ", "\u00b0": r"^\circ "}
)


def boxed(text: str) -> str | None:
    r"""What stands in the last ``\boxed{...}`` that is closed; also ``\fbox{...}``, and ``\boxed 5`` where no other is.

    A box longer than ``ANSWER_LONGEST`` counts as not closed.
    """
    starts = [found.end() for found in _BOX.finditer(text)][-BOXES:]
    for start in reversed(starts):
        end = _closing(text, start)
        if end is not None:
            return text[start:end].strip()
    unbraced = _UNBRACED_BOX.findall(text)
    return unbraced[-1] if unbraced else None


def last_answer(text: str) -> str | None:
    r"""The answer that a completion ends with, in whatever form.

    The last box; else what follows the last ``####``, ``answer:`` or ``answer is`` on its line; else the last formula
    or number, whichever ends later, among the last ``TAIL`` characters.
    """
    found = boxed(text)
    if found is not None:
        return found
    tail = text[-TAIL:]
    markers = list(_MARKERS.finditer(tail))
    if markers:
        line = tail[markers[-1].end() :].strip().partition("\n")[0].strip(" *:").rstrip(".")
        if line:
            # Where words stand around it, the answer is the formula or number among them.
            return (_last_formula_or_number(line) or line) if "$" in line or _WORD.search(line) else line
    return _last_formula_or_number(tail)


def plain(answer: str) -> str:
    """An answer without the notation that changes nothing: spacing, sizes of brackets, words' fonts, separators.

    Two answers with the same plain text are the same answer.
    """
    answer = unicodedata.normalize("NFC", answer).translate(_SIGNS)
    answer = _TEXT.sub(r" \1 ", answer)
    answer = _FRACTION.sub(r"\\frac", _SILENT.sub(lambda found: found[1] or "", answer))
    answer = " ".join(answer.split()).rstrip(".").strip()
    if found := _SCIENTIFIC.fullmatch(answer):
        answer = rf"{found[1]} \times 10^{{{int(found[2])}}}"
    if _THOUSANDS.fullmatch(answer):
        answer = answer.replace("{,}", "").replace(",", "")
    return answer


def _closing(text: str, start: int) -> int | None:
    """Where the brace that was opened just before ``start`` is closed."""
    depth = 1
    for found in _BRACE.finditer(text, start, start + ANSWER_LONGEST):
        depth += {"{": 1, "}": -1}.get(found.group(), 0)
        if depth == 0:
            return found.start()
    return None


def _last_formula_or_number(text: str) -> str | None:
    text = text.replace("$$", "$")
    numbers = [(found.end(), found.group()) for found in _NUMBER.finditer(text)]
    found = max([*_formulas(text), *numbers[-1:]], default=None)
    return found[1] if found else None


def _formulas(text: str) -> list[tuple[int, str]]:
    """The last formula of each notation, after where it ends; one that is not empty."""
    found = []
    for closing, opening in _SPANS:
        end = text.rfind(closing)
        start = text.rfind(opening, 0, end) if end > 0 else -1
        content = text[start + len(opening) : end].strip() if start >= 0 else ""
        if content and len(content) <= ANSWER_LONGEST:
            found.append((end + len(closing), content))
    return found
