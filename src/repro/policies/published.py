"""The paper's eleven base models (section 2.2), by their names on the Hub, and how its code prompts them."""

from typing import NamedTuple


class BaseModel(NamedTuple):
    """A base model of the paper: the pin's name and the template, as a run's config has them."""

    base: str
    template: str = "r1_zero"

    @property
    def fields(self) -> dict[str, object]:
        """Fields of a run's config."""
        return {"base": self.base, "policy": {"template": self.template}}


PUBLISHED = {
    "qwen2.5-0.5b": BaseModel("hub:Qwen/Qwen2.5-0.5B"),
    "qwen2.5-1.5b": BaseModel("hub:Qwen/Qwen2.5-1.5B"),
    "qwen2.5-3b": BaseModel("hub:Qwen/Qwen2.5-3B"),
    "qwen2.5-7b": BaseModel("hub:Qwen/Qwen2.5-7B"),
    "qwen2.5-32b": BaseModel("hub:Qwen/Qwen2.5-32B"),
    "mistral-7b": BaseModel("hub:mistralai/Mistral-7B-v0.3"),
    "mistral-nemo-12b": BaseModel("hub:mistralai/Mistral-Nemo-Base-2407"),
    # The paper writes Mistral-Small-3.1-24B-Base-2501, a mixture of two names: 2501 is the date of this one.
    "mistral-small-24b": BaseModel("hub:mistralai/Mistral-Small-24B-Base-2501"),
    "llama-3.2-3b": BaseModel("hub:meta-llama/Llama-3.2-3B"),
    "llama-3.1-8b": BaseModel("hub:meta-llama/Llama-3.1-8B"),
    "deepseek-math-7b": BaseModel("hub:deepseek-ai/deepseek-math-7b-base"),
}
"""The authors' code puts every question into R1-Zero's template by default (``data.zero=True``)."""
