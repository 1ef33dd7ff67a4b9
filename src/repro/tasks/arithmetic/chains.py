"""Chains of one-digit operations."""

from dataclasses import dataclass

OPERATORS = "+-*"
END_OF_PROMPT = ":"
ANSWER_MARK = "="
MODULUS = 10


def apply(total: int, operator: str, operand: int) -> int:
    """One operation of the chain, modulo 10."""
    if operator == "+":
        return (total + operand) % MODULUS
    if operator == "-":
        return (total - operand) % MODULUS
    return (total * operand) % MODULUS


@dataclass(frozen=True)
class Problem:
    """A chain ``first op operand op operand ...`` of one-digit numbers."""

    first: int
    operations: tuple[tuple[str, int], ...]

    @property
    def level(self) -> int:
        return len(self.operations)

    @property
    def prompt(self) -> str:
        return (
            str(self.first) + "".join(f"{operator}{operand}" for operator, operand in self.operations) + END_OF_PROMPT
        )

    @property
    def totals(self) -> list[int]:
        """Running totals, one per operation; the last is the answer."""
        totals, total = [], self.first
        for operator, operand in self.operations:
            total = apply(total, operator, operand)
            totals.append(total)
        return totals

    @property
    def answer(self) -> str:
        return str(self.totals[-1])
