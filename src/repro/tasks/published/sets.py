r"""Published sets of problems in mathematics: where each is, and how a row of it becomes a problem.

Identifiers, configs, splits and columns are those of the sets' cards on the Hub. The evaluation sets are decoded as in
the paper's section 4.3: AIME and AMC at temperature 0.6 with 32 samples, the others greedily.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from repro.tasks.grading.answers import boxed
from repro.tasks.task import Decoding

GREEDY, MEAN_OF_32 = Decoding(temperature=0.0, samples=1), Decoding(temperature=0.6, samples=32)


def as_text(value: Any) -> str:
    """Text as it is, and a whole number without a decimal point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def after_hashes(solution: str) -> str:
    """GSM8K: what follows ``####``."""
    return solution.rpartition("####")[2].strip() if "####" in solution else ""


def in_box(solution: str) -> str:
    """MATH: what is in the last box."""
    return boxed(solution) or ""


def joined(answers: list[str]) -> str:
    """OlympiadBench: a list of answers, of which most problems have one."""
    return ", ".join(answers)


def ground_truth(reward_model: Mapping[str, Any]) -> str:
    """Sets in verl's format."""
    return as_text(reward_model["ground_truth"])


_DAPO_BEFORE = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
_DAPO_AFTER = '\n\nRemember to put your answer on its own line after "Answer:".'


def without_dapo_instructions(messages: list[Mapping[str, str]]) -> str:
    """DAPO-Math: the user's message without the form of answer that it asks for, which is another than ours."""
    return messages[-1]["content"].removeprefix(_DAPO_BEFORE).removesuffix(_DAPO_AFTER)


def level_number(level: str | int) -> int | None:
    """MATH: ``Level 3``, or 3; some rows have ``Level ?``."""
    text = str(level).removeprefix("Level ")
    return int(text) if text.isdecimal() else None


@dataclass(frozen=True)
class ProblemSet:
    """One split of a data set on the Hub.

    Args:
        repository: owner and name on the Hub.
        split, config: which part of it.
        question, answer, level: columns; of MATH's solutions, say, the answer is a part.
        read_question, read_answer, read_level: from a column's value to text or number; an empty answer is an error.
        decoding: how completions are drawn where it is evaluated.
    """

    repository: str
    split: str
    question: str
    answer: str
    config: str | None = None
    level: str | None = None
    read_question: Callable[[Any], str] = as_text
    read_answer: Callable[[Any], str] = as_text
    read_level: Callable[[Any], int | None] = level_number
    decoding: Decoding | None = None

    @property
    def pin(self) -> str:
        """Its name in the lock."""
        return f"hub:{self.repository}"


GSM8K_TRAIN = ProblemSet("openai/gsm8k", "train", "question", "answer", config="main", read_answer=after_hashes)
GSM8K_TEST = ProblemSet("openai/gsm8k", "test", "question", "answer", config="main", read_answer=after_hashes)
MATH_TRAIN = ProblemSet(
    "DigitalLearningGmbH/MATH-lighteval",
    "train",
    "problem",
    "solution",
    config="default",
    level="level",
    read_answer=in_box,
)
# 17,917 rows, each a hundred times.
DAPO_MATH_17K = ProblemSet(
    "BytedTsinghua-SIA/DAPO-Math-17k",
    "train",
    "prompt",
    "reward_model",
    read_question=without_dapo_instructions,
    read_answer=ground_truth,
)
MATH_500 = ProblemSet("HuggingFaceH4/MATH-500", "test", "problem", "answer", level="level", decoding=GREEDY)
AIME_2024 = ProblemSet("HuggingFaceH4/aime_2024", "train", "problem", "answer", decoding=MEAN_OF_32)
AIME_2025 = ProblemSet("math-ai/aime25", "test", "problem", "answer", decoding=MEAN_OF_32)
AMC = ProblemSet("AI-MO/aimo-validation-amc", "train", "problem", "answer", decoding=MEAN_OF_32)
OLYMPIAD_BENCH = ProblemSet(
    "Hothan/OlympiadBench",
    "train",
    "question",
    "final_answer",
    config="OE_TO_maths_en_COMP",
    read_answer=joined,
    decoding=GREEDY,
)
MINERVA = ProblemSet("math-ai/minervamath", "test", "question", "answer", decoding=GREEDY)
# All 4,428 problems; the paper's evaluation has 2,821 of them, those whose answers a rule can check.
OMNI_MATH = ProblemSet(
    "KbsdJames/Omni-MATH", "test", "problem", "answer", level="difficulty", read_level=int, decoding=GREEDY
)
