r"""What may be read as mathematics: limits of size and structure that a text must keep before a parser sees it.

Computer algebra has no bound of its own: ``9^{9^{9}}`` is nine characters, and expanding ``(x+y+z)^{500}`` fills a
machine. So an answer is read as mathematics only where its size and structure keep the work small, which is decided
from the text alone and comes out the same on every machine. What is beyond is compared as text. The commands are those
of the answers to competition problems; sums, products, integrals and limits are not among them, since comparing these
would compute them.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

LONGEST = 240
"""Characters."""
DIGITS = 40
"""Of one number."""
DEPTH = 8
"""Of brackets in each other."""
TOWER = 2
"""Exponents in each other."""
POWER = 20_000
"""The product of all numbers in exponents."""
EXPANDED = 8
"""The same, beside letters, of exponents of brackets, which may be multiplied out, and of roots' indices."""
FACTORIAL_DIGITS, BINOMIAL_DIGITS = 3, 4
"""Of a number that a factorial or a binomial coefficient is taken of."""
COUNTS = {
    "relations": 3,
    "roots": 4,
    "functions": 4,
    "factorials": 3,
    "binomials": 3,
    "bars": 4,
    "ampersands": 16,
    "commas": 32,
}
"""How many of each there may be."""
LETTERS_OF_A_RELATION, POWER_OF_A_RELATION = 4, 6
"""Different letters, and numbers in exponents, of what may have to be solved."""

_SPACING = "! , ; : quad qquad { } % $ \\"
_LETTERS = "alpha beta gamma delta epsilon theta lambda mu nu rho sigma tau phi varphi psi omega Delta Omega pi"
_SYMBOLS = (
    "infty circ prime emptyset varnothing mathbb mathrm mathbf mathcal text textbf textit degree "
    "cdot times div pm mp frac dfrac tfrac cfrac sqrt cup cap in notin setminus mid "
    "le leq leqslant ge geq geqslant lt gt ne neq approx equiv to overline bar vec hat "
    "lfloor rfloor lceil rceil langle rangle vert lvert rvert begin end boxed"
)
_FUNCTIONS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "log",
        "ln",
        "lg",
        "exp",
    ]
)
_BINOMIALS = frozenset({"binom", "dbinom", "tbinom"})
_UNIONS = frozenset({"cup", "cap", "setminus"})
_ROUNDED = frozenset({"lfloor", "rfloor", "lceil", "rceil"})
_RELATIONS = frozenset(["le", "leq", "leqslant", "ge", "geq", "geqslant", "lt", "gt", "ne", "neq", "approx", "equiv"])
_COMMANDS = {*_SPACING.split(), *_LETTERS.split(), *_SYMBOLS.split(), " ", *_FUNCTIONS, *_BINOMIALS}
# What an exponent may start with where no bracket is around it.
_BARE = {f"\\{name}" for name in _LETTERS.split()}
_MARKS = {"\\infty", "\\circ", "\\prime"}
# What an exponent may not hold: it makes large numbers of small ones, or two numbers one.
_NOT_IN_EXPONENTS = {",", "!", "\\lfloor", "\\lceil", *(f"\\{name}" for name in _BINOMIALS)}
_MATRICES = frozenset({"matrix", "pmatrix", "bmatrix", "vmatrix", "array"})

_TOKEN = re.compile(r"\\(?:[A-Za-z]+|.)|[0-9]+(?:\.[0-9]+)?|\.[0-9]+|.", re.DOTALL)
_OPENING, _CLOSING = frozenset("{[("), frozenset("}])")
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+")
_SCIENTIFIC = re.compile(r"[0-9.][eE][-+]?[0-9]")


def refusal(text: str) -> str | None:
    """Why a text is not read as mathematics, in a few words; None where it may be."""
    if not text:
        return "nothing"
    if len(text) > LONGEST:
        return f"longer than {LONGEST} characters"
    if not (text.isascii() and text.isprintable()):
        return "a character that is not printable ASCII"
    tokens = _TOKEN.findall(text)
    for token in tokens:
        if token[0] == "\\" and token[1:] not in _COMMANDS:
            return f"the command {token}"
        if len(token) > DIGITS and _NUMBER.fullmatch(token):
            return f"a number of more than {DIGITS} digits"
    if _SCIENTIFIC.search(text):
        return "a number with a power of ten"
    return _brackets(tokens) or _counts(text, tokens) or _growing(tokens) or _powers(text, tokens)


def _brackets(tokens: list[str]) -> str | None:
    depth = 0
    for token in tokens:
        depth += (token in _OPENING) - (token in _CLOSING)
        if depth > DEPTH:
            return f"brackets more than {DEPTH} deep"
    return None


def _counts(text: str, tokens: list[str]) -> str | None:
    commands = [token[1:] for token in tokens if token[0] == "\\"]
    counts = {
        "relations": sum(token in "<>=" for token in tokens) + sum(name in _RELATIONS for name in commands),
        "roots": commands.count("sqrt"),
        "functions": sum(name in _FUNCTIONS for name in commands),
        "factorials": tokens.count("!"),
        "binomials": sum(name in _BINOMIALS for name in commands),
        "bars": tokens.count("|"),
        "ampersands": tokens.count("&"),
        "commas": tokens.count(","),
    }
    for name, count in counts.items():
        if count > COUNTS[name]:
            return f"more than {COUNTS[name]} {name}"
    for environment in re.findall(r"\\begin\s*\{([^{}]*)\}", text):
        if environment not in _MATRICES:
            return f"the environment {environment}"
    letters = {token for token in tokens if token.isalpha()}
    if counts["relations"] and len(letters) > LETTERS_OF_A_RELATION:
        return f"a relation of more than {LETTERS_OF_A_RELATION} letters"
    return None


def _growing(tokens: list[str]) -> str | None:
    """What grows fast is of short numbers, and what simplifies slowly has no letters in it."""
    names = {token[1:] for token in tokens if token[0] == "\\"}
    letters = any(token.isalpha() or token in _BARE for token in tokens)
    for before, token in zip(["", *tokens], tokens, strict=False):
        if token == "!" and not (before.isalpha() or (before.isdigit() and len(before) <= FACTORIAL_DIGITS)):
            return "a factorial of a large number or of a bracket"
    if "!" in tokens and names & (_FUNCTIONS | _BINOMIALS):
        return "a factorial beside a function"
    if letters and names & (_BINOMIALS | _UNIONS | _ROUNDED):
        return f"letters beside \\{min(names & (_BINOMIALS | _UNIONS | _ROUNDED))}"
    if names & _BINOMIALS and any(_NUMBER.fullmatch(token) and len(token) > BINOMIAL_DIGITS for token in tokens):
        return "a binomial coefficient of large numbers"
    return None


def _powers(text: str, tokens: list[str]) -> str | None:
    power = expanded = 1.0
    letters = any(token.isalpha() for token in tokens)
    for one in _exponents([token for token in tokens if not token.isspace()]):
        if one.depth > TOWER:
            return f"exponents more than {TOWER} deep"
        if reason := _odd(one):
            return reason
        for number in map(float, one.numbers):
            power *= max(1.0, number)
            if "\\begin" in tokens or (letters and (not one.base or one.base in _CLOSING)):
                expanded *= max(1.0, number)
        if one.depth > 1 and _NUMBER.fullmatch(one.base):
            # The power of a number is a number in the exponent around it.
            base, exponent = min(float(one.base), POWER + 1.0), max([1.0, *map(float, one.numbers)])
            power *= max(1.0, base) ** min(exponent, float(POWER.bit_length()))
        if power > POWER:
            return f"exponents whose product is more than {POWER}"
    if expanded > EXPANDED:
        return f"a bracket to a power, or a root, of more than {EXPANDED}"
    if power > POWER_OF_A_RELATION and re.search(r"[<>=]|\\(?:le|ge|lt|gt|ne|approx|equiv)", text):
        return f"a relation with a power of more than {POWER_OF_A_RELATION}"
    return None


class _Exponent(NamedTuple):
    """An exponent, or the index of a root."""

    depth: int
    """How many it is in, itself counted."""
    base: str
    """The token before it; nothing for an index."""
    content: list[str]
    after: str
    """The token after it."""

    @property
    def numbers(self) -> list[str]:
        """Those in it, those in exponents inside included."""
        return [token for token in self.content if _NUMBER.fullmatch(token)]


def _odd(one: _Exponent) -> str | None:
    """Forms of an exponent whose size is not seen in its numbers."""
    first = one.content[0] if one.content else ""
    if not first or one.after == "^" or (first[0] == "\\" and first not in _BARE | _MARKS):
        return "an exponent without brackets"
    if any(len(number) > len(str(POWER)) for number in one.numbers):
        return f"a number in an exponent of more than {len(str(POWER))} digits"
    adjacent = zip(one.content, one.content[1:], strict=False)
    if not _NOT_IN_EXPONENTS.isdisjoint(one.content) or any(_NUMBER.fullmatch(a + b) for a, b in adjacent):
        return "an exponent that is not one number"
    if one.depth > 1 and one.base in _CLOSING and one.numbers:
        return "a power of a bracket in an exponent"
    return None


def _exponents(tokens: list[str]) -> Iterator[_Exponent]:
    """All there are, from left to right, of tokens without spaces."""
    ends: list[int] = []
    for place, token in enumerate(tokens):
        ends = [end for end in ends if end > place]
        index = token == "[" and place > 0 and tokens[place - 1] == "\\sqrt"
        if token != "^" and not index:
            continue
        start = place if index else place + 1
        end = _end(tokens, start)
        ends.append(end)
        base = tokens[place - 1] if place and not index else ""
        after = tokens[end] if end < len(tokens) and tokens[start] not in _OPENING else ""
        yield _Exponent(len(ends), base, tokens[start:end], after)


def _end(tokens: list[str], start: int) -> int:
    """Where the token or the bracket at ``start`` ends; a sign belongs to the token after it."""
    while start < len(tokens) and tokens[start] in ("-", "+"):
        start += 1
    if start < len(tokens) and tokens[start] in _OPENING:
        depth = 0
        for place in range(start, len(tokens)):
            depth += (tokens[place] in _OPENING) - (tokens[place] in _CLOSING)
            if depth == 0:
                return place + 1
    return min(start + 1, len(tokens)) if start < len(tokens) and tokens[start] not in _OPENING else len(tokens)
