"""Base policies under ``bases/``: trained from scratch by a recipe, each with the provenance of its weights."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from repro.digests import sha256
from repro.errors import BaseError, ConfigError
from repro.paths import bases_dir
from repro.policies.loose import refuse_loose
from repro.policies.recipes import remedy
from repro.policies.settings import PolicySettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

WEIGHTS, PROVENANCE = "model.safetensors", "provenance.json"


class EmbeddedBases:
    """The source of base policies."""

    def load(
        self, name: str, settings: PolicySettings, seed: int
    ) -> "tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]":
        """A base policy and its tokenizer.

        Raises:
            BaseError: when it is missing, of another architecture, or its weights are not those its provenance names.
            ConfigError: for any settings.
        """
        from transformers import PreTrainedTokenizerFast

        if settings != PolicySettings():
            raise ConfigError(
                f"policy={settings.model_dump(exclude_defaults=True)} is for a pinned policy, and {name!r} is a base "
                "under bases/: leave it out, or set base to hub:... or local:..."
            )
        digest = self.identity(name)
        folder = bases_dir() / name
        recorded = json.loads((folder / PROVENANCE).read_text())["sha256"]
        if digest != recorded:
            raise BaseError(
                f"{folder / WEIGHTS} is not the file its {PROVENANCE} names (sha256 {recorded[:12]}...): restore it, "
                f"or make it again; {remedy(name)}"
            )
        # AutoTokenizer would go by the architecture and make Qwen2's own tokenizer of the vocabulary.
        return _load_whole(folder), PreTrainedTokenizerFast.from_pretrained(folder)

    def identity(self, name: str) -> str:
        """SHA-256 of the weights.

        Raises:
            BaseError: when they are not there.
        """
        path = bases_dir() / name / WEIGHTS
        try:
            return sha256(path)
        except OSError:
            present = sorted(folder.parent.name for folder in bases_dir().glob(f"*/{WEIGHTS}"))
            raise BaseError(
                f"base policy {name!r} is missing: there is no {path}; "
                f"present are {', '.join(present) or 'none'}; {remedy(name)}"
            ) from None


def _load_whole(folder: Path) -> "Qwen2ForCausalLM":
    """The policy of a folder, every tensor of which comes from its file and has a place in the model.

    transformers loads another architecture's tensors where the names agree and initialises the rest afresh.
    """
    from transformers import Qwen2ForCausalLM
    from transformers.utils import logging

    architectures = json.loads((folder / "config.json").read_text()).get("architectures")
    if architectures != [Qwen2ForCausalLM.__name__]:
        raise BaseError(
            f"{folder} holds the architecture {', '.join(architectures or ['unknown'])}, and a base policy is a "
            f"{Qwen2ForCausalLM.__name__}: put a checkpoint of that there"
        )
    logging.disable_progress_bar()  # of loading 27 small tensors
    model, found = Qwen2ForCausalLM.from_pretrained(folder, output_loading_info=True, ignore_mismatched_sizes=True)
    refuse_loose(found, folder)
    return model
