"""Stand-ins of published problem sets, in the files, cards and columns of each, and pins of them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
import yaml

from repro.digests import sha256
from repro.pins import lock
from repro.pins.lock import Pin

DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)
# Of each repository: config, split, file, rows.
REPOSITORIES: dict[str, list[tuple[str, str, str, list[dict[str, Any]]]]] = {
    "openai/gsm8k": [
        (
            "main",
            split,
            f"main/{split}-00000-of-00001.parquet",
            [
                {
                    "question": f"Ann has {n} pens and buys 2.",
                    "answer": f"She has {n}+2=<<{n}+2={n + 2}>>\n#### {n + 2}",
                }
                for n in numbers
            ],
        )
        for split, numbers in (("train", range(7)), ("test", range(100, 104)))
    ]
    + [("socratic", "train", "socratic/train-00000-of-00001.parquet", [{"question": "Not this?", "answer": "#### 0"}])],
    "DigitalLearningGmbH/MATH-lighteval": [
        (
            "default",
            split,
            f"data/{split}-00000-of-00001.parquet",
            [
                {
                    "problem": f"What is half of ${n}$?",
                    "level": level,
                    "type": "Algebra",
                    "solution": rf"It is $\boxed{{\frac{{{n}}}{{2}}}}$.",
                }
                for n, level in numbers
            ],
        )
        for split, numbers in (
            ("train", [(3, "Level 1"), (5, "Level 5"), (7, "Level ?")]),
            ("test", [(9, "Level 2")]),
        )
    ],
    "BytedTsinghua-SIA/DAPO-Math-17k": [
        (
            "default",
            "train",
            "data/dapo-math-17k.parquet",
            [
                {
                    "data_source": "math_dapo",
                    "prompt": [{"content": DAPO.format(question), "role": "user"}],
                    "ability": "MATH",
                    "reward_model": {"ground_truth": answer, "style": "rule-lighteval/MATH_v2"},
                    "extra_info": {"index": f"{answer}"},
                }
                for question, answer in [
                    ("Find the remainder when $7^{100}$ is divided by 5.", "1"),
                    ("Jen enters a lottery by picking four numbers. Find the probability.", "116"),
                ]
                for _ in range(3)
            ],
        )
    ],
    "HuggingFaceH4/MATH-500": [
        (
            "default",
            "test",
            "test.jsonl",
            [
                {
                    "problem": f"Convert the point $(0,{n})$ to polar coordinates.",
                    "solution": "long",
                    "answer": rf"\left( {n}, \frac{{\pi}}{{2}} \right)",
                    "subject": "Precalculus",
                    "level": 2,
                    "unique_id": f"test/precalculus/{n}.json",
                }
                for n in range(3, 8)
            ],
        )
    ],
    "HuggingFaceH4/aime_2024": [
        (
            "default",
            "train",
            "data/train-00000-of-00001.parquet",
            [
                {
                    "id": 60,
                    "problem": "Jen enters a lottery by picking four numbers.  Find the probability!",
                    "solution": "",
                    "answer": "116",
                    "url": "",
                    "year": "2024",
                }
            ],
        )
    ],
    "math-ai/aime25": [("default", "test", "test.jsonl", [{"problem": "Sum?", "answer": "070", "id": "0"}])],
    "AI-MO/aimo-validation-amc": [
        (
            "default",
            "train",
            "data/train-00000-of-00001.parquet",
            [{"id": 0, "problem": "How many?", "answer": 142.0, "url": ""}],
        )
    ],
    "Hothan/OlympiadBench": [
        (
            "OE_TO_maths_en_COMP",
            "train",
            "OlympiadBench/OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.parquet",
            [
                {
                    "id": 1606,
                    "question": "Find all $x$.",
                    "solution": ["..."],
                    "final_answer": ["1", "-2"],
                    "is_multiple_answer": True,
                    "difficulty": "Competition",
                }
            ],
        )
    ],
    "math-ai/minervamath": [("default", "test", "test.jsonl", [{"question": "How far?", "answer": "1.5e8"}])],
    "KbsdJames/Omni-MATH": [
        (
            "default",
            "test",
            "test.jsonl",
            [
                {
                    "domain": ["Algebra"],
                    "difficulty": 4.5,
                    "problem": "Show.",
                    "solution": "",
                    "answer": "$n$",
                    "source": "",
                }
            ],
        )
    ],
}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as JSONL or Parquet, by the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def repository(folder: Path, parts: list[tuple[str, str, str, list[dict[str, Any]]]]) -> Path:
    """A repository's files and the head of its card."""
    configs: dict[str, list[dict[str, str]]] = {}
    for config, split, file, rows in parts:
        write(folder / file, rows)
        configs.setdefault(config, []).append({"split": split, "path": file})
    head = {"configs": [{"config_name": name, "data_files": files} for name, files in configs.items()]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(head)}---\n# Card\n", encoding="utf-8")
    return folder


def pinned(name: str, folder: Path) -> None:
    """Write a pin of a folder's files under a name of the Hub."""
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}
    lock.add("dataset", name, Pin(files=files, folder=str(folder)))


@contextmanager
def places(root: Path) -> Iterator[Path]:
    """A lock, a build folder and a cache of their own."""
    (root / "configs").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "configs_dir", lambda: root / "configs")
        patch.setenv("REPRO_BUILD", str(root / "build"))
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "cache")
        yield root
