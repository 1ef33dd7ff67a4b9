"""Pinned policies: any causal language model of transformers, by the Hub's name or from a folder, as the lock has it.

Weights come from safetensors alone and no code of a repository is run. The files are those of the pin, the model's
class is the one that the pin names, and every tensor of the files has its place in it: transformers would load another
architecture's tensors where the names agree and initialise the rest afresh.
"""

import importlib.util
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro import pins
from repro.errors import BaseError, ConfigError
from repro.policies.loose import refuse_loose
from repro.policies.settings import Lora, PolicySettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class HubPolicies:
    """The source of policies that are pinned from the Hub."""

    prefix = "hub"

    def load(self, name: str, settings: PolicySettings, seed: int) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """A policy and its tokenizer; with ``settings.lora`` the policy has new adapters, which alone are trained.

        Raises:
            PinError: when it is not pinned, not to be had, or not what was pinned.
            BaseError: when it is no causal language model, or its files do not fit together.
            ConfigError: for settings that need a package which is not there.
        """
        self._check(settings)
        name = f"{self.prefix}:{name}"
        folder = pins.resolve("model", name)
        model = _model(folder, pins.get("model", name), settings)
        if settings.lora is not None:
            model = _with_adapters(model, settings.lora, seed, quantised=settings.load_in_4bit)
        return model, _tokenizer(folder)

    def identity(self, name: str) -> str:
        """SHA-256 over the checksums in the pin.

        Raises:
            PinError: when it is not pinned.
        """
        return pins.get("model", f"{self.prefix}:{name}").digest

    @staticmethod
    def _check(settings: PolicySettings) -> None:
        """Refuse settings that cannot be had before anything is downloaded or loaded."""
        if settings.lora is not None and importlib.util.find_spec("peft") is None:
            raise ConfigError("policy.lora needs the package peft: install it, or leave lora out to train all weights")
        if settings.load_in_4bit and settings.lora is None:
            raise ConfigError(
                "policy.load_in_4bit=True needs adapters to train: add lora, such as policy: {lora: {r: 32}}"
            )
        if settings.load_in_4bit and importlib.util.find_spec("bitsandbytes") is None:
            raise ConfigError(
                "policy.load_in_4bit=True needs the package bitsandbytes: install it, or leave load_in_4bit out"
            )


class LocalPolicies(HubPolicies):
    """The source of policies that are pinned from a folder of this machine."""

    prefix = "local"


def fast_dtype() -> str:
    """What this machine computes fast in: bfloat16 where the GPU has units for it, float16 on an older one.

    Units for bfloat16 came with compute capability 8.0: A100 and L4 have them, T4 has not. On a CPU it is float32.
    """
    import torch

    if not torch.cuda.is_available():
        return "float32"
    return "bfloat16" if torch.cuda.get_device_capability() >= (8, 0) else "float16"


def _model(folder: Path, pin: pins.Pin, settings: PolicySettings) -> "PreTrainedModel":
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    named = fast_dtype() if settings.dtype == "auto" else settings.dtype or pin.dtype
    if named is None:
        raise ConfigError(f"the files in {folder} do not say what their dtype is: set policy.dtype, such as bfloat16")
    dtype = getattr(torch, named)
    quantization = (
        BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
        if settings.load_in_4bit
        else None
    )
    more: dict[str, Any] = {} if quantization is None else {"quantization_config": quantization}
    if settings.attn_implementation is not None:
        more["attn_implementation"] = settings.attn_implementation
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **more,
        )
    except (ValueError, KeyError, ImportError, OSError, StrictDataclassError) as error:
        raise BaseError(
            f"{folder} cannot be loaded as a causal language model: {' '.join(str(error).split())}"
        ) from error
    if type(model).__name__ != pin.architecture:
        raise BaseError(
            f"{folder} is pinned as the architecture {pin.architecture}, and as a causal language model it would be a "
            f"{type(model).__name__}: pin a model whose config names that"
        )
    refuse_loose(found, folder)
    return model


def _tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = folder / "tokenizer_config.json"
    named = json.loads(path.read_text(encoding="utf-8")).get("tokenizer_class") if path.exists() else None
    # Of a tokenizer of no architecture AutoTokenizer would make the architecture's own, with another split of the text.
    generic = named in ("PreTrainedTokenizerFast", "TokenizersBackend")
    kind = PreTrainedTokenizerFast if generic else AutoTokenizer
    tokenizer = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, padding_side="left")
    if tokenizer.eos_token is None:
        raise BaseError(f"the tokenizer in {folder} has no end-of-sequence token, so no completion could end: name one")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _with_adapters(model: "PreTrainedModel", lora: Lora, seed: int, *, quantised: bool) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if quantised:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(task_type="CAUSAL_LM", **lora.model_dump())
    with torch.random.fork_rng(), warnings.catch_warnings():
        # peft 0.21 asks the model by the name that transformers 5.23 has deprecated.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        torch.manual_seed(seed)
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            raise ConfigError(f"policy.lora does not fit the model: {' '.join(str(error).split())}") from error
