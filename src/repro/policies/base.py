"""Base policies: the recipe, and the checkpoints that it made.

First clean solutions, then the noisy mixture of strategies. A policy trained on the mixture from the start never learns
the arithmetic: the slips drown it. So the first stage shows every strategy equally often and without slips, until the
policy computes as well as its size allows; the second, shorter one gives it the mixture's priors and slips, and with
them the entropy that reinforcement learning then spends. Only training-split problems are shown.
"""

import dataclasses
import hashlib
import json
import platform
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from tqdm import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen2ForCausalLM
from transformers.utils import logging

from repro.errors import BaseError, ConfigError
from repro.paths import bases_dir
from repro.policies.family import make_model, make_tokenizer, non_embedding_parameters
from repro.seeds import derive_seed
from repro.tasks import MIXTURES, get_task

WEIGHTS, PROVENANCE = "model.safetensors", "provenance.json"


@dataclass(frozen=True)
class BaseRecipe:
    """Everything that decides a base policy's weights."""

    size: str
    task: str = "arithmetic"
    mixture: str = "standard"
    clean_steps: int = 4000
    mixture_steps: int = 400
    batch_size: int = 128
    learning_rate: float = 2e-3
    seed: int = 0


# The learning rate times the width is constant up to m; the larger ones were not tuned.
RECIPES = {
    "xs": BaseRecipe("xs", learning_rate=4e-3),
    "s": BaseRecipe("s"),
    "sm": BaseRecipe("sm", learning_rate=1.33e-3),
    "m": BaseRecipe("m", learning_rate=1e-3),
    "l": BaseRecipe("l", learning_rate=5e-4),
    "xl": BaseRecipe("xl", learning_rate=3e-4),
    "explore": BaseRecipe("s", mixture="explore"),
    "single": BaseRecipe("s", mixture="single"),
}

SHIPPED = ("xs", "s", "sm", "m", "explore", "single")
"""The bases that the profiles need and that come with the repository."""


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


def train_base(
    recipe: BaseRecipe, *, on_step: Callable[[int, float], None] | None = None
) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """Train a base policy from scratch.

    Args:
        recipe: size, data and the lengths of the two stages.
        on_step: called with the step and the loss (nats per solution token) after every step.
    """
    rng = random.Random(derive_seed("solutions", recipe.seed))
    tokenizer = make_tokenizer()
    with torch.random.fork_rng([]):
        torch.manual_seed(derive_seed("weights", recipe.seed))
        model = make_model(recipe.size, tokenizer).train()
    task, mixture = get_task(recipe.task), MIXTURES[recipe.mixture]
    data_seed = derive_seed("base", recipe.seed)
    stages = [(True, recipe.clean_steps, recipe.learning_rate), (False, recipe.mixture_steps, recipe.learning_rate / 2)]
    shown = 0
    for clean, steps, learning_rate in stages:
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
        for _ in range(steps):
            problems = [task.problem("train", data_seed, shown + row) for row in range(recipe.batch_size)]
            shown += recipe.batch_size
            texts = [(p.prompt, mixture.draw(rng, clean=clean).solution(p, rng, clean=clean)) for p in problems]
            loss = model(**_encode(tokenizer, texts)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if on_step is not None:
                on_step(shown // recipe.batch_size, loss.item())
    return model.eval(), tokenizer


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
                "sha256": _sha256(folder / WEIGHTS),
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


def remedy(name: str) -> str:
    """What to do about a base policy that is not there or not what it should be."""
    if name in RECIPES:
        return f"`python -m repro bases {name}` makes it"
    return f"no recipe makes it, the recipes are {', '.join(RECIPES)}: correct the name, or put its files there"


def load_base(name: str) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """A base policy and its tokenizer.

    Raises:
        BaseError: when it is missing, of another architecture, or its weights are not those its provenance names.
    """
    folder = bases_dir() / name
    if not (folder / WEIGHTS).is_file():
        raise BaseError(f"base policy {name!r} is missing: there is no {folder / WEIGHTS}; {remedy(name)}")
    recorded = json.loads((folder / PROVENANCE).read_text())["sha256"]
    if _sha256(folder / WEIGHTS) != recorded:
        raise BaseError(
            f"{folder / WEIGHTS} is not the file its {PROVENANCE} names (sha256 {recorded[:12]}...): restore it, or "
            f"make it again; {remedy(name)}"
        )
    return _load_whole(folder), AutoTokenizer.from_pretrained(folder)


def _load_whole(folder: Path) -> Qwen2ForCausalLM:
    """The policy of a folder, every tensor of which comes from its file and has a place in the model.

    transformers loads another architecture's tensors where the names agree and initialises the rest afresh.
    """
    architectures = json.loads((folder / "config.json").read_text()).get("architectures")
    if architectures != [Qwen2ForCausalLM.__name__]:
        raise BaseError(
            f"{folder} holds the architecture {', '.join(architectures or ['unknown'])}, and a base policy is a "
            f"{Qwen2ForCausalLM.__name__}: put a checkpoint of that there"
        )
    logging.disable_progress_bar()  # of loading 27 small tensors
    model, found = Qwen2ForCausalLM.from_pretrained(folder, output_loading_info=True, ignore_mismatched_sizes=True)
    for what in ("missing", "unexpected", "mismatched"):
        names = sorted(str(name) for name in found[f"{what}_keys"])
        if names:
            raise BaseError(
                f"{folder / WEIGHTS} does not fit its config.json: {len(names)} {what} tensors, such as {names[0]}; "
                "put back the two files that belong together"
            )
    return model
