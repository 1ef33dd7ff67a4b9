"""How a pinned policy is loaded, prompted and trained. Importing this module is light.

The defaults take part in the identity of every run: a setting may be added, and a default never changes.
"""

from typing import Annotated, Literal

from pydantic import Field

from repro.checked import Checked

Names = Annotated[list[str], Field(min_length=1)]


class Lora(Checked):
    """Adapters in place of all weights; the fields are those of ``peft.LoraConfig``."""

    r: Annotated[int, Field(ge=1)] = 16
    lora_alpha: Annotated[int, Field(ge=1)] = 32
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: str | Names = "all-linear"
    use_rslora: bool = False


class PolicySettings(Checked):
    """Settings of a pinned policy; gradient checkpointing and mixed precision are fields of the trainer."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    """Of the weights; None for the one in the pin, ``auto`` for the one that this machine computes fast in."""
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2"] | None = None
    """transformers' name of it; None for its own choice."""
    template: Literal["plain", "chat", "r1_zero"] = "plain"
    """What a prompt stands in: nothing, the tokenizer's chat template, or that of R1-Zero for base models."""
    lora: Lora | None = None
    load_in_4bit: bool = False
    """Weights quantised to four bits (bitsandbytes' NF4); it needs ``lora``."""
