"""Sampling a rollout's completions against transformers' ``generate``: `python -m benchmarks.generation [--quick]`.

Both draw from the same base policy, prompts, temperature and length limit. Before anything is timed, their greedy
completions must be the same tokens.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformers import GenerationConfig

from benchmarks.harness import RESULTS, Comparison, Method, measure, record
from repro import policies
from repro.policies.sampling import pad_left, sample_tokens
from repro.tasks import get_task

BASES = ("s", "m")
ROLLOUTS = ((64, 8), (256, 8))
LENGTH = 16
PEER = f"transformers {transformers.__version__} generate"

Tokens = list[list[int]]


def comparison(base: str, prompts: int, samples: int) -> Comparison:
    """One rollout: `samples` completions of each of `prompts` problems, at most `LENGTH` tokens each."""
    model, tokenizer = policies.load(base)
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    encoded = tokenizer(list(get_task("arithmetic").dataset("train", 0, prompts)["prompt"]))["input_ids"]

    def ours(temperature: float) -> Tokens:
        return sample_tokens(model, encoded, samples, temperature=temperature, max_new_tokens=LENGTH, eos=eos, pad=pad)

    def peer(temperature: float) -> Tokens:
        # As TRL's trainer calls it: every prompt as many times as it has completions.
        rows = pad_left([prompt for prompt in encoded for _ in range(samples)], pad)
        drawing = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
        config = GenerationConfig(
            do_sample=bool(temperature),
            max_new_tokens=LENGTH,
            eos_token_id=eos,
            pad_token_id=pad,
            disable_compile=True,
            **drawing,
        )
        output = model.generate(input_ids=rows, attention_mask=(rows != pad).long(), generation_config=config)
        return [_until(row, eos) for row in output[:, rows.size(1) :].tolist()]

    greedy = peer(0.0)

    def method(name: str, draw: Callable[[float], Tokens]) -> Method:
        def check(sampled: Tokens) -> None:
            assert draw(0.0) == greedy, f"{name}: greedy tokens differ from those of {PEER}"
            assert len(sampled) == prompts * samples
            assert all(row[-1] == eos or len(row) == LENGTH for row in sampled)

        return Method(name, lambda: draw(1.0), check)

    return Comparison(
        "generation",
        f"base={base} completions={prompts}x{samples}",
        str(model.dtype).removeprefix("torch."),
        (method("ours", ours), method(PEER, peer)),
    )


def _until(row: list[int], eos: int) -> list[int]:
    """The tokens up to the first end, which is kept."""
    return row[: row.index(eos) + 1] if eos in row else row


def run(output: Path, *, threads: int = 1, quick: bool = False) -> None:
    """Time every base and rollout and append to the CSV at `output`; a few small ones where `quick`."""
    torch.set_num_threads(threads)
    device = torch.device("cpu")
    limits = (math.nan, math.nan)  # no method counts its bytes or operations
    with record(output, device) as write:
        for base in BASES[: 1 if quick else None]:
            for shape in ((8, 8),) if quick else ROLLOUTS:
                for row in measure(comparison(base, *shape), device, limits, rounds=3 if quick else 21, budget=30.0):
                    write(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads that torch may use (default 1, as in a run)")
    parser.add_argument("--quick", action="store_true", help="one small rollout, to see that it works")
    parser.add_argument("--output", type=Path, help="CSV to append to (default: the one of record; --quick: none)")
    arguments = parser.parse_args()
    output = arguments.output or (Path("/dev/null") if arguments.quick else RESULTS / "generation.csv")
    run(output, threads=arguments.threads, quick=arguments.quick)


if __name__ == "__main__":
    main()
