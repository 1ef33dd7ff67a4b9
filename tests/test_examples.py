"""Every example runs as it is, in seconds."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from repro import paths

EXAMPLES = paths.root() / "examples"

pytestmark = pytest.mark.slow


def run(folder: Path, *arguments: str) -> str:
    """What a command of Python prints in a folder, where it succeeds."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(paths.root() / "src")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def logs(printed: str) -> list[tuple[int, float, float]]:
    """Step, entropy and the number behind it, of every line."""
    found = re.findall(r"step +(\d+)  entropy (\d\.\d+) nat  (?:reward )?(\d+(?:\.\d+)?)", printed)
    return [(int(step), float(entropy), float(last)) for step, entropy, last in found]


def test_every_example_is_tested():
    tests = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.iterdir() if f'"{path.name}"' not in tests and path.suffix == ".py"] == []


def test_the_tiny_one(tmp_path):
    found = logs(run(tmp_path, str(EXAMPLES / "kl_cov.py")))
    assert [step for step, *_ in found] == [4, 8, 12, 16, 20, 24]
    assert all(0 < entropy < 3 for _, entropy, _ in found)


def test_lora_of_a_checkpoint_by_path(tmp_path):
    """An untrained Llama over bytes: it never solves a sum, so the filter spends its attempts and says so."""
    alphabet = ["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({token: index for index, token in enumerate(alphabet)}, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<eos>")
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(alphabet), pad_token_id=0, eos_token_id=1, bos_token_id=None, **shape)
    for part in (LlamaForCausalLM(config), tokenizer):
        part.save_pretrained(tmp_path / "checkpoint")
    found = logs(run(tmp_path, str(EXAMPLES / "lora.py"), "checkpoint", "adapter"))
    assert [step for step, *_ in found] == [4, 8, 12, 16]
    assert all(0 < entropy < 5.6 for _, entropy, _ in found)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size > 1000


def test_two_ranks(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    printed = run(tmp_path, *torchrun, str(EXAMPLES / "two_ranks.py"))
    assert [step for step, *_ in logs(printed)] == [4, 8]
    assert "2 ranks" in printed
    # 0.002 of the tokens of both ranks' 256 completions.
    chosen, pool = (int(number) for number in re.search(r"(\d+) of a rollout's (\d+) tokens", printed).groups())
    assert pool > 256 and abs(chosen - 0.002 * pool / 4) <= 1
