"""TRL's own GRPO tests with TRL's trainer and with ours in its place: ``python tests/trl_suite.py TRL_SOURCE_TREE``.

The tests come from a source tree of TRL, the trainer under them from the TRL that is installed. The tiny models and
data sets that they load from the Hub are made here, in the layout of the Hub's cache, so that no network is needed;
what has no stand-in (vision, remote code) fails for TRL's trainer too, and only tests that TRL's trainer passes are
compared. A test that another arm does not pass is a difference. It is documented where it fails with one of
``REFUSALS``; any other is printed as ``UNDOCUMENTED`` and ends the program with status 1.

The suite's configs are on-policy, where KL-Cov is refused; its arm follows the error's advice and defaults to
``num_iterations=2``. Some minutes an arm on one core.
"""

import argparse
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

ARMS = {
    "stock": None,
    "none": {},
    "kl_cov": {"entropy_control": "kl_cov", "num_iterations": 2},
    "clip_cov": {"entropy_control": "clip_cov"},
}
REFUSALS = {
    "use_liger_kernel=True can replace": "Liger's kernel replaces the forward pass that the covariance is taken from",
    "is not defined for loss_type": "the methods restrict the clipped ratio of a token, which this loss does not have",
    "has one ratio per sequence": "the methods select tokens",
    "bounds the ratio while": "delta bounds a ratio that the method leaves unclipped",
}
"""Part of the message, and why it is refused; the trainer's page has them all."""

OWNER = "trl-internal-testing"
COMMON = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
MODELS = {
    "tiny-Qwen2ForCausalLM-2.5": ("qwen2", {"num_key_value_heads": 2}),
    "tiny-Qwen3ForCausalLM": ("qwen3", {"num_key_value_heads": 2, "head_dim": 4}),
    "tiny-LlamaForCausalLM-3.2": ("llama", {"num_key_value_heads": 2}),
    "tiny-MistralForCausalLM-0.2": ("mistral", {"num_key_value_heads": 2}),
    "tiny-Gemma2ForCausalLM": ("gemma2", {"num_key_value_heads": 2, "head_dim": 4}),
    "tiny-Cohere2ForCausalLM": ("cohere2", {"num_key_value_heads": 2, "head_dim": 2}),
    "tiny-Qwen3MoeForCausalLM": (
        "qwen3_moe",
        {"num_key_value_heads": 2, "head_dim": 4, "num_experts": 4, "output_router_logits": True, **EXPERTS},
    ),
    "tiny-Glm4MoeForCausalLM": (
        "glm4_moe",
        {"num_key_value_heads": 2, "head_dim": 4, "n_routed_experts": 4, "first_k_dense_replace": 1, **EXPERTS},
    ),
    "tiny-GptOssForCausalLM": (
        "gpt_oss",
        {"num_key_value_heads": 2, "head_dim": 4, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "tiny-Qwen2ForSequenceClassification-2.5": ("qwen2", {"num_key_value_heads": 2}),
    "tiny-Qwen3ForSequenceClassification": ("qwen3", {"num_key_value_heads": 2, "head_dim": 4}),
    "tiny-LlamaForSequenceClassification-3.2": ("llama", {"num_key_value_heads": 2}),
}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTIONS = (
    "2 + 2?",
    "A prime?",
    "The sea is",
    "Rain falls",
    "Count to 3:",
    "Name a bird.",
    "Blue or red?",
    "Why not?",
)


def make_models(cache: Path) -> None:
    """Put an untrained stand-in for every model into a cache folder of the Hub."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        PreTrainedTokenizerFast,
    )

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({token: index for index, token in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=special[1:2],
        chat_template=TEMPLATE,
    )
    commit = "0" * 40
    for name, (kind, shape) in MODELS.items():
        config = AutoConfig.for_model(
            kind,
            **(COMMON | shape),
            vocab_size=len(tokenizer),
            max_position_embeddings=1024,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
        torch.manual_seed(0)
        if "SequenceClassification" in name:
            config.num_labels = 1
            model = AutoModelForSequenceClassification.from_config(config)
        else:
            model = AutoModelForCausalLM.from_config(config)
        folder = cache / f"models--{OWNER}--{name}"
        model.save_pretrained(folder / "snapshots" / commit)
        tokenizer.save_pretrained(folder / "snapshots" / commit)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(commit)


def load_dataset(path: str, name: str, *, split: str | None = None, streaming: bool = False, **_: Any) -> Any:
    """A stand-in for the suite's prompts: 8 to train on and 2 to test."""
    from datasets import Dataset, DatasetDict, IterableDatasetDict

    if path != f"{OWNER}/zen":
        raise FileNotFoundError(f"{path} has no stand-in")
    chat = name.startswith("conversational")
    rows = {"train": QUESTIONS, "test": QUESTIONS[:2]}
    parts = {
        part: Dataset.from_dict({"prompt": [[{"role": "user", "content": q}] if chat else q for q in questions]})
        for part, questions in rows.items()
    }
    if streaming:
        parts = {part: data.to_iterable_dataset() for part, data in parts.items()}
    if split is not None:
        return parts[split]
    return (IterableDatasetDict if streaming else DatasetDict)(parts)


def not_available(name: str) -> Any:
    """A module's ``__getattr__`` that answers no to every ``is_..._available``."""
    if not re.fullmatch(r"is_\w+_available", name):
        raise AttributeError(name)
    return lambda: False


def pytest_configure(config: Any) -> None:
    """As a plugin of an arm's pytest: put its trainer and the stand-ins where the suite imports them from."""
    import datasets
    import trl
    from trl import import_utils

    datasets.load_dataset = load_dataset
    # The suite of another version of TRL may ask for optional packages that this version does not look for.
    import_utils.__getattr__ = not_available
    settings = ARMS[os.environ["TRL_SUITE_ARM"]]
    if settings is not None:
        from repro.trainer import CovGRPOConfig, CovGRPOTrainer

        trl.GRPOTrainer, trl.GRPOConfig = CovGRPOTrainer, functools.partial(CovGRPOConfig, **settings)


def run(arm: str, tree: Path, scratch: Path, select: str) -> dict[str, str]:
    """An arm's tests and what became of each: ``passed``, ``skipped``, or the message it failed with."""
    report = scratch / f"{arm}.xml"
    here = Path(__file__).resolve()
    environment = os.environ | {
        "TRL_SUITE_ARM": arm,
        "HF_HUB_CACHE": str(scratch / "hub"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join([str(here.parent), str(here.parents[1] / "src")]),
    }
    suite = tree / "tests" / "test_grpo_trainer.py"
    flags = ["-q", "--no-header", "--tb=short", "-p", here.stem, "-p", "no:cacheprovider", f"--junitxml={report}"]
    if select:
        flags += ["-k", select]
    command = [sys.executable, "-m", "pytest", str(suite), f"--rootdir={tree}", *flags]
    log = scratch / f"{arm}.log"
    with log.open("w") as output:
        subprocess.run(command, cwd=scratch, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    if not report.is_file():
        raise SystemExit(f"error: pytest wrote no report; its output is\n{log.read_text()[-3000:]}")
    outcomes = {}
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname').rpartition('.')[2]}::{case.get('name')}"
        bad = [child for child in case if child.tag in ("failure", "error")]
        skipped = case.find("skipped") is not None
        message = " ".join(f"{child.get('message')} {child.text}" for child in bad)
        outcomes[name] = message if bad else "skipped" if skipped else "passed"
    return outcomes


def reason(message: str) -> str | None:
    """The documented refusal that a failure's message is, if it is one."""
    flat = re.sub(r"\s+", " ", message)
    return next((why for part, why in REFUSALS.items() if "ConfigError" in flat and part in flat), None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", type=Path, help="a source tree of TRL, with tests/test_grpo_trainer.py")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS, help="stock is always run")
    parser.add_argument("-k", dest="select", default="", help="pytest's -k: run a part of the suite")
    arguments = parser.parse_args()
    tree = arguments.tree.resolve()
    if not (tree / "tests" / "test_grpo_trainer.py").is_file():
        parser.error(f"{tree} has no tests/test_grpo_trainer.py: pass a source tree of TRL")
    undocumented = 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        # Beside the tree's package the tests would import that one, and not the TRL that is installed.
        suite = shutil.copytree(tree / "tests", scratch / "suite" / "tests").parent
        shutil.copy(tree / "pyproject.toml", suite)
        make_models(scratch / "hub")
        stock = {name for name, what in run("stock", suite, scratch, arguments.select).items() if what == "passed"}
        print(f"stock: {len(stock)} tests pass", flush=True)
        for arm in [arm for arm in arguments.arms if arm != "stock"]:
            outcomes = run(arm, suite, scratch, arguments.select)
            differ = {
                name: outcomes.get(name, "not collected") for name in sorted(stock) if outcomes.get(name) != "passed"
            }
            print(f"{arm}: {len(stock) - len(differ)} of these pass", flush=True)
            for name, message in differ.items():
                why = reason(message)
                undocumented += why is None
                print(f"  {name}: {why or 'UNDOCUMENTED: ' + ' '.join(message.split())[:300]}", flush=True)
    return 1 if undocumented else 0


if __name__ == "__main__":
    sys.exit(main())
