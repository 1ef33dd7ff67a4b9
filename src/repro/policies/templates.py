"""What a question stands in when it is put to a policy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from repro.errors import ConfigError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

R1_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
    "first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> "
    "reasoning process here </think> <answer> answer here </answer>. User: {question}.\nAssistant: Let me solve this "
    "step by step.\n<think>"
)
"""DeepSeek-R1-Zero's prompt (arXiv:2501.12948, Table 1), with the beginning of the answer that the authors' code gives.

Only that beginning and the first words are known from the code; the sentences between are those of the R1 paper.
"""


def in_template(problems: "Dataset", template: str, tokenizer: "PreTrainedTokenizerBase") -> "Dataset":
    """Problems with their ``prompt`` as the policy is asked, as text.

    Args:
        problems: with a column ``prompt``.
        template: ``chat`` for the tokenizer's own, ``r1_zero``, or ``plain`` for the problems as they are.
        tokenizer: the policy's.

    Raises:
        ConfigError: for ``chat`` where the tokenizer has no chat template.
    """
    if template == "plain":
        return problems
    prompts = prompted(problems["prompt"], template, tokenizer)
    return type(problems).from_dict({**problems.to_dict(), "prompt": prompts}, features=problems.features)


def prompted(questions: Sequence[str], template: str, tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Questions in ``chat`` or ``r1_zero``.

    A chat template may begin with the token that the tokenizer puts before any text by itself; then it is left to it.
    """
    if template == "r1_zero":
        return [R1_ZERO.replace("{question}", question) for question in questions]
    if tokenizer.chat_template is None:
        raise ConfigError(
            "policy.template='chat' needs a tokenizer with a chat template, and this one has none: it may be a base "
            "model's, for which r1_zero is"
        )
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        for question in questions
    ]
    first = tokenizer.bos_token
    if first and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]:
        return [text.removeprefix(first) for text in texts]
    return texts
