"""Which files of a repository or folder are used, and what those of a model say about it."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from repro.errors import PinError
from repro.pins.lock import Kind

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
BESIDE_WEIGHTS = (
    *(CONFIG, "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json"),
)
"""What transformers reads of a causal language model; code and pickled weights are not among them."""
DATA = (".parquet", ".jsonl", ".json", ".csv", ".jsonl.gz", ".json.gz", ".csv.gz", ".jsonl.zst")
DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def used(kind: Kind, names: Collection[str], text: Callable[[str], str], where: object) -> list[str]:
    """The files that are used of those that are there, sorted.

    Args:
        kind: of what.
        names: paths of all files.
        text: reads one of them.
        where: what errors call the place.

    Raises:
        PinError: for a model without a config or safetensors, or a data set without data.
    """
    if kind == "dataset":
        found = [name for name in names if name.endswith(DATA) and not name.startswith(".")]
        if not found:
            raise PinError(f"{where} has no data that is read ({', '.join(DATA)}); name another, or pass --kind model")
        # Its head says which files are which split.
        return sorted([*found, *({"README.md"} & set(names))])
    if CONFIG not in names:
        raise PinError(f"{where} has no {CONFIG}, which a model has; name another, or pass --kind dataset")
    weights = {INDEX, *json.loads(text(INDEX))["weight_map"].values()} if INDEX in names else {WEIGHTS}
    missing = sorted(weights - set(names))
    if missing:
        raise PinError(
            f"{where} has no {missing[0]}: only weights as safetensors are loaded, since other formats run code; pin a "
            "revision that has them (--revision), or save the model with `save_pretrained` and pin the folder"
        )
    return sorted(weights | (set(BESIDE_WEIGHTS) & set(names)))


def architecture(config: Mapping[str, Any], where: object) -> str:
    """The class that a model's config names.

    Raises:
        PinError: where there is none, or it comes with code of its own.
    """
    named = config.get("architectures") or []
    if len(named) != 1:
        raise PinError(
            f"{where}: {CONFIG} names no architecture, or several: set `architectures` to the one of the model"
        )
    if config.get("auto_map"):
        raise PinError(f"{where} brings code of its own (auto_map in {CONFIG}), which is never run; name another model")
    return named[0]


def dtype(config: Mapping[str, Any], stored: str | None) -> str | None:
    """The type of a model's weights: as its config says, else as stored in its file (``BF16``), else None."""
    named = config.get("dtype") or config.get("torch_dtype")
    return named if named in DTYPES.values() else DTYPES.get(stored or "")


def all_names(folder: Path) -> list[str]:
    """Paths of the files below a folder, but for those in hidden folders."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [PurePosixPath(*path.parts).as_posix() for path in found if not any(p.startswith(".") for p in path.parts)]
