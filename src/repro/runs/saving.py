"""A trained policy in a folder of its own, as any causal language model is saved, and its model card."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import ConfigError
from repro.runs.config import RunConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from repro.runs.record import Run

CARD = "README.md"


def folder_of(root: Path, config: RunConfig) -> Path:
    """Where a run's policy goes below the folder that was asked for."""
    return root / config.name


def check(folder: Path) -> None:
    """Find out before a run is trained whether its policy can be saved.

    Raises:
        ConfigError: when the folder is there already.
    """
    if folder.exists():
        raise ConfigError(f"{folder} is there already: name another folder for the policy, or remove it")


def save(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write a policy and its tokenizer, whole or not at all.

    Adapters are merged into the weights, so that the folder loads and is pinned like any other; on weights of four bits
    that would lose what was learned, and there the folder has the adapters alone.
    """
    if hasattr(model, "merge_and_unload") and not getattr(model, "is_loaded_in_4bit", False):
        model = model.merge_and_unload()
    draft = folder.with_name(f".{folder.name}.tmp")
    model.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    draft.rename(folder)


def write_card(folder: Path, run: "Run", claims: Sequence[str]) -> None:
    """The model card of a saved policy: what it was trained from and how, for which claims, with what result.

    Args:
        folder: of the policy.
        run: its record.
        claims: titles of the claims that the run is of; none for a run of one's own.
    """
    from huggingface_hub import ModelCard, ModelCardData

    from repro.trainer.methods.base import CUI_2025

    config, made = run.config, run.provenance
    first, last = (run.evaluations["accuracy/mean"].iloc[at] for at in (0, -1))
    base = config.base.removeprefix("hub:")
    data = ModelCardData(
        base_model=base if base != config.base else None,
        library_name="transformers",
        tags=["trl", "cov-grpo", "reinforcement-learning"],
    )
    of = "".join(f"\n- {title}" for title in claims) or "\n- none: a run of its own"
    content = f"""---
{data.to_yaml()}
---

# {run.name}

A policy trained by reinforcement learning in a reproduction of *{CUI_2025["title"]}*
([arXiv:{CUI_2025["id"]}](https://arxiv.org/abs/{CUI_2025["id"]})).

- Run: `{run.name}`, arm `{config.arm}`, seed {config.seed}
- Base policy: `{config.base}`, identity `{config.base_sha256}`
- Task: `{config.task}`
- Accuracy on its validation problems, samples at temperature {config.eval_temperature:g}: {first:.3f} before training,
  {last:.3f} after {config.max_steps} optimizer steps
- Entropy at the last step: {run.metrics["entropy/response_mean"].iloc[-1]:.3f} nats
- Code: commit `{made["commit"]}`, fingerprint `{made["code"]}`; sampler `{made["sampler"]}`, which repeats
  {made["reproducible"]}

It is of these claims:
{of}

## Settings

What differs from the defaults:

```json
{json.dumps(config.content, indent=2, sort_keys=True)}
```

## Versions

{", ".join(f"{name} {version}" for name, version in made["versions"].items())}

## Cite

The paper that is reproduced, and the algorithm that it builds on:

```bibtex
{CUI_2025["citation"]}
{GRPO}```
"""
    ModelCard(content).save(folder / CARD)


GRPO = """\
@article{shao2024deepseekmath,
    title        = {{DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models}},
    author       = {Zhihong Shao and Peiyi Wang and Qihao Zhu and Runxin Xu and Junxiao Song and others},
    year         = 2024,
    eprint       = {arXiv:2402.03300},
}
"""
