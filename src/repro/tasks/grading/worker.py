"""The process that compares answers with computer algebra: a line of JSON in, a line of JSON out.

Started by :mod:`repro.tasks.grading.referee` with a fixed hash seed. It bounds its own memory; its time is bounded from
outside. Only the LaTeX parser of math-verify is used, whose grammar knows no code; its other one, for plain
expressions, ends in ``eval``.
"""

import contextlib
import json
import resource
import sys

MEMORY = 2**30
"""Bytes of address space."""


def main() -> None:
    """Answer until the standard input ends."""
    import math_verify
    import sympy

    config = [math_verify.LatexExtractionConfig(boxed_match_priority=0)]
    # Some systems refuse the limit; the limits on the texts hold everywhere.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    def parse(answer: str) -> list:
        return math_verify.parse(f"\\boxed{{{answer}}}", config, fallback_mode="no_fallback", parsing_timeout=0)

    def infinite(expressions: list) -> bool:
        return any(
            isinstance(one, sympy.Expr) and one.has(sympy.oo, -sympy.oo, sympy.zoo, sympy.nan) for one in expressions
        )

    def equal(answer: list, gold: list) -> bool:
        # math-verify 0.9 takes |\infty| for equal to any finite number that is not rational.
        return infinite(answer) == infinite(gold) and bool(math_verify.verify(gold, answer, timeout_seconds=0))

    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        answer, gold = json.loads(line)
        try:
            verdict = equal(parse(answer), parse(gold))
        except (MemoryError, RecursionError) as error:
            verdict = type(error).__name__
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    main()
