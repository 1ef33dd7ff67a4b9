"""Shapes of causal language models, from their configs alone: what their parameters, memory and work follow from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro import pins
from repro.errors import BaseError
from repro.paths import bases_dir
from repro.policies.settings import Lora


@dataclass(frozen=True)
class Shape:
    """A decoder of Llama's kind: attention with grouped keys and values, and a gated MLP."""

    hidden: int
    layers: int
    mlp: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False
    head_width: int = 0
    """0 for ``hidden / heads``."""
    qkv_bias: bool = False

    @property
    def queries(self) -> int:
        """Width of all queries of a token."""
        return self.heads * (self.head_width or self.hidden // self.heads)

    @property
    def keys(self) -> int:
        """Width of all keys of a token; its values are as wide."""
        return self.kv_heads * (self.head_width or self.hidden // self.heads)

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The linear maps of a layer: input and output width."""
        return {
            "q_proj": (self.hidden, self.queries),
            "k_proj": (self.hidden, self.keys),
            "v_proj": (self.hidden, self.keys),
            "o_proj": (self.queries, self.hidden),
            "gate_proj": (self.hidden, self.mlp),
            "up_proj": (self.hidden, self.mlp),
            "down_proj": (self.mlp, self.hidden),
        }

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer."""
        biases = (self.queries + 2 * self.keys) * self.qkv_bias
        return sum(rows * columns for rows, columns in self.linears.values()) + biases + 2 * self.hidden

    @property
    def head_parameters(self) -> int:
        """Parameters of the output head, which are the input embedding's too where the two are tied."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        tables = 1 if self.tied else 2
        return self.layers * self.layer_parameters + tables * self.head_parameters + self.hidden

    @property
    def non_embedding_parameters(self) -> int:
        """Those outside embedding and head, as the paper's Fig. 7 counts."""
        return self.layers * self.layer_parameters + self.hidden

    def adapter_parameters(self, lora: Lora) -> int:
        """Parameters of adapters: of every linear map of a layer, or of those that are named."""
        every = lora.target_modules == "all-linear"
        widths = [sum(one) for name, one in self.linears.items() if every or name in lora.target_modules]
        return self.layers * lora.r * sum(widths)


# Of the configs on the Hub.
KNOWN: Mapping[str, Shape] = {
    "hub:Qwen/Qwen2.5-0.5B": Shape(896, 24, 4864, 14, 2, 151936, tied=True, qkv_bias=True),
    "hub:Qwen/Qwen2.5-0.5B-Instruct": Shape(896, 24, 4864, 14, 2, 151936, tied=True, qkv_bias=True),
    "hub:Qwen/Qwen2.5-1.5B": Shape(1536, 28, 8960, 12, 2, 151936, tied=True, qkv_bias=True),
    "hub:Qwen/Qwen2.5-3B": Shape(2048, 36, 11008, 16, 2, 151936, tied=True, qkv_bias=True),
    "hub:Qwen/Qwen2.5-7B": Shape(3584, 28, 18944, 28, 4, 152064, qkv_bias=True),
    "hub:Qwen/Qwen2.5-32B": Shape(5120, 64, 27648, 40, 8, 152064, qkv_bias=True),
    "hub:mistralai/Mistral-7B-v0.3": Shape(4096, 32, 14336, 32, 8, 32768),
    "hub:mistralai/Mistral-Nemo-Base-2407": Shape(5120, 40, 14336, 32, 8, 131072, head_width=128),
    "hub:mistralai/Mistral-Small-24B-Base-2501": Shape(5120, 40, 32768, 32, 8, 131072, head_width=128),
    "hub:meta-llama/Llama-3.2-3B": Shape(3072, 28, 8192, 24, 8, 128256, tied=True),
    "hub:meta-llama/Llama-3.1-8B": Shape(4096, 32, 14336, 32, 8, 128256),
    "hub:deepseek-ai/deepseek-math-7b-base": Shape(4096, 30, 11008, 32, 32, 102400),
}
"""The paper's base models and the hosted profile's, so that they can be estimated before anything is downloaded."""


def shape_of(base: str) -> Shape:
    """The shape of a run's base policy.

    Raises:
        BaseError: when it is not there, or its config is not of such a model.
        PinError: when it is not pinned.
    """
    if base in KNOWN:
        return KNOWN[base]
    folder = Path(pins.resolve("model", base)) if ":" in base else bases_dir() / base
    path = folder / "config.json"
    try:
        return read_shape(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BaseError(f"{path}: cannot be read ({error.strerror}); `python -m repro bases` makes bases") from error
    except (KeyError, ValueError, TypeError) as error:
        raise BaseError(
            f"{path}: not the config of a decoder with a gated MLP ({error}): it cannot be estimated"
        ) from error


def read_shape(config: Mapping[str, Any]) -> Shape:
    """The shape that a model's ``config.json`` describes."""
    return Shape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        mlp=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
        vocabulary=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", False)),
        head_width=config.get("head_dim") or 0,
        qkv_bias=config.get("model_type") == "qwen2" or bool(config.get("attention_bias")),
    )
