"""Making base policies: training by a recipe, and the checkpoint with its provenance.

First clean solutions, then the noisy mixture of them. A policy trained on the mixture from the start never learns
the task: the slips drown it. So the first stage shows demonstrations without slips, until the policy computes as well
as its size allows; the second, shorter one gives it the mixture's priors and slips, and with them the entropy that
reinforcement learning then spends. Only training-split problems are shown.
"""

import dataclasses
import json
import platform
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import transformers
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from repro.digests import sha256
from repro.errors import ConfigError
from repro.paths import bases_dir
from repro.policies.buckets import buckets
from repro.policies.embedded import PROVENANCE, WEIGHTS
from repro.policies.family import make_model, make_tokenizer, non_embedding_parameters
from repro.policies.recipes import RECIPES, SHIPPED, BaseRecipe
from repro.seeds import derive_seed
from repro.tasks import get_task


def _encode(tokenizer: PreTrainedTokenizerFast, texts: list[tuple[str, str]]) -> dict[str, torch.Tensor]:
    """Prompts and solutions as a right-padded batch whose labels cover the solutions alone."""
    rows = [
        (tokenizer(prompt)["input_ids"], [*tokenizer(solution)["input_ids"], tokenizer.eos_token_id])
        for prompt, solution in texts
    ]
    length = max(len(prompt) + len(solution) for prompt, solution in rows)
    input_ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    labels = torch.full((len(rows), length), -100)
    for row, (prompt, solution) in enumerate(rows):
        end = len(prompt) + len(solution)
        input_ids[row, :end] = torch.tensor(prompt + solution)
        labels[row, len(prompt) : end] = torch.tensor(solution)
    return {"input_ids": input_ids, "attention_mask": (input_ids != tokenizer.pad_token_id).long(), "labels": labels}


def _backward(model: Qwen2ForCausalLM, batch: dict[str, torch.Tensor]) -> float:
    """Add the gradient of a batch's mean loss per solution token, and return the loss in nats."""
    solution_tokens = (batch["labels"] != -100).sum()
    total = 0.0
    for rows, columns in buckets(batch["attention_mask"]):
        part = {name: values[rows, columns] for name, values in batch.items()}
        loss = model(**part, num_items_in_batch=solution_tokens).loss
        loss.backward()
        total += loss.item()
    return total


def train_base(
    recipe: BaseRecipe, *, on_step: Callable[[int, float], None] | None = None
) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """Train a base policy from scratch.

    Args:
        recipe: size, data and the lengths of the two stages.
        on_step: called with the step and the loss (nats per solution token) after every step.
    """
    rng = random.Random(derive_seed("solutions", recipe.seed))
    task = get_task(recipe.task)
    tokenizer = make_tokenizer(task)
    with torch.random.fork_rng([]):
        torch.manual_seed(derive_seed("weights", recipe.seed))
        model = make_model(recipe.size, tokenizer).train()
    data_seed = derive_seed("base", recipe.seed)
    stages = [(True, recipe.clean_steps, recipe.learning_rate), (False, recipe.mixture_steps, recipe.learning_rate / 2)]
    shown = 0
    for clean, steps, learning_rate in stages:
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
        for _ in range(steps):
            numbers = range(shown, shown + recipe.batch_size)
            shown += recipe.batch_size
            texts = [task.demonstration(recipe.mixture, data_seed, number, rng, clean=clean) for number in numbers]
            loss = _backward(model, _encode(tokenizer, texts))
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if on_step is not None:
                on_step(shown // recipe.batch_size, loss)
    return model.eval(), tokenizer


def make_bases(names: Iterable[str] | None = None) -> list[Path]:
    """Train base policies by their recipes and put them, with their provenance, into the folder of bases.

    A base appears whole or not at all; one that is there already is replaced.

    Args:
        names: recipes to train; by default those of the bases that ship.

    Raises:
        ConfigError: for a name without a recipe.
    """
    made = []
    for name in names or SHIPPED:
        if name not in RECIPES:
            raise ConfigError(f"base {name!r} has no recipe; the recipes are {', '.join(RECIPES)}")
        recipe = RECIPES[name]
        with tqdm(total=recipe.clean_steps + recipe.mixture_steps, desc=f"base {name}", unit="step") as bar:

            def show(step: int, loss: float, bar: tqdm = bar) -> None:
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

            model, tokenizer = train_base(recipe, on_step=show)
        bases_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=bases_dir(), prefix=f".{name}-") as scratch:
            folder = Path(scratch) / name
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            provenance = {
                "command": f"python -m repro bases {name}",
                "recipe": dataclasses.asdict(recipe),
                "non_embedding_parameters": non_embedding_parameters(model),
                "sha256": sha256(folder / WEIGHTS),
                "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
                "machine": platform.machine(),
            }
            (folder / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n")
            target = bases_dir() / name
            if target.exists():
                shutil.rmtree(target)
            folder.rename(target)
        made.append(target)
    return made
