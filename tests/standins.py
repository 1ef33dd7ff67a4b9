"""Stand-ins in the Hub's formats, made on the fly: tiny checkpoints with real tokenizer files, and a Hub of them."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
}
CHAT = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def byte_tokenizer(*, bos: bool, chat: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE without merges, as those of Qwen and Llama are with them; ``bos`` puts a token before a text."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + ["<|begin|>"] * bos
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", vocabulary["<|begin|>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>" if chat else "<|endoftext|>",
        pad_token=None if bos else "<|endoftext|>",
        bos_token="<|begin|>" if bos else None,
        chat_template=CHAT if chat else None,
        additional_special_tokens=special[:3],
    )


def checkpoint(folder: Path, family: str, *, sharded: bool = False, chat: bool = True, dtype=torch.float32) -> Path:
    """Two narrow layers of a family; Llama's and Mistral's tokenizers begin a text with a token and have no pad."""
    tokenizer = byte_tokenizer(bos=family != "qwen2", chat=chat)
    config, model = FAMILIES[family]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        made = model(
            config(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=512,
                tie_word_embeddings=family == "qwen2",
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                bos_token_id=tokenizer.bos_token_id,
            )
        ).to(dtype)
    made.save_pretrained(folder, max_shard_size="40KB" if sharded else "5GB")
    tokenizer.save_pretrained(folder)
    return folder


class StubHub:
    """The few calls that pinning and downloading make, answered from folders.

    Args:
        models, datasets: repositories, by name, each a folder. Files over ``large`` bytes have a checksum, as those of
            the Hub's large-file store do.
    """

    def __init__(self, models: dict[str, Path], datasets: dict[str, Path], *, large: int = 10_000) -> None:
        self.repositories = {"models": models, "datasets": datasets}
        self.large = large
        self.asked: list[str] = []

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers."""
        parts = urlsplit(path).path.strip("/").split("/")
        self.asked.append("/".join(parts))
        if parts[0] == "api":
            folder = self.repositories[parts[1]].get("/".join(parts[2:4]))
            if folder is None:
                return 404, b"{}", {"X-Error-Code": "RepoNotFound"}
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            if parts[4:5] == ["tree"]:
                return 200, json.dumps([self._entry(folder, one) for one in files]).encode(), {}
            if parts[4:5] == ["revision"] and parts[5] not in ("main", COMMIT):
                return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
            siblings = [self._sibling(folder, one) for one in files]
            return 200, json.dumps({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings}).encode(), {}
        kind = "datasets" if parts[0] == "datasets" else "models"
        parts = parts[1:] if kind == "datasets" else parts
        content = (self.repositories[kind]["/".join(parts[:2])] / "/".join(parts[4:])).read_bytes()
        return 200, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}

    def _lfs(self, content: bytes) -> dict[str, object]:
        oid = hashlib.sha256(content).hexdigest()
        return {"oid": oid, "sha256": oid, "size": len(content), "pointerSize": 130}

    def _sibling(self, folder: Path, path: Path) -> dict[str, object]:
        content = path.read_bytes()
        entry = {"rfilename": path.relative_to(folder).as_posix(), "size": len(content), "blobId": "0" * 40}
        return entry | ({"lfs": self._lfs(content)} if len(content) > self.large else {})

    def _entry(self, folder: Path, path: Path) -> dict[str, object]:
        content = path.read_bytes()
        entry = {"type": "file", "path": path.relative_to(folder).as_posix(), "size": len(content), "oid": "0" * 40}
        return entry | ({"lfs": self._lfs(content)} if len(content) > self.large else {})

    @contextmanager
    def serve(self) -> Iterator[str]:
        """The address while the block runs."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body, headers = hub.answer(self.path)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("localhost", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
