"""The embedded family: Qwen2-architecture policies of several sizes over the tokens of a task.

Non-embedding parameters, with 4 d^2 a layer for attention, 12 d^2 for the gated MLP of width 4 d and a little for
biases and norms: xs 0.03 M, s 0.13 M, sm 0.30 M, m 0.53 M, l 2.1 M, xl 8.4 M; and sm3, deeper and with a narrower
MLP, 0.36 M.
"""

from typing import NamedTuple

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from repro.errors import ConfigError
from repro.tasks import TaughtTask


class Size(NamedTuple):
    """A shape of policy."""

    width: int
    layers: int = 2
    expansion: int = 4
    """Width of the gated MLP, in widths."""


SIZES = {
    "xs": Size(32),
    "s": Size(64),
    "sm": Size(96),
    "sm3": Size(96, layers=3, expansion=3),
    "m": Size(128),
    "l": Size(256),
    "xl": Size(512),
}
HEAD_WIDTH = 32
PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"


def make_tokenizer(task: TaughtTask) -> PreTrainedTokenizerFast:
    """A tokenizer with the task's own tokens, saved and loaded like any other of transformers."""
    vocabulary = {token: index for index, token in enumerate([PAD, EOS, UNKNOWN, *task.tokens])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    if task.separator:
        # Without a decoder, tokens are put together with spaces.
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
        tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=task.longest,
        clean_up_tokenization_spaces=False,
    )


def make_model(size: str, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """An untrained policy of a size in ``SIZES``, initialised from torch's global generator.

    Raises:
        ConfigError: for an unknown size, naming the known ones.
    """
    if size not in SIZES:
        raise ConfigError(f"size={size!r} is unknown; the sizes are {', '.join(SIZES)}")
    width, layers, expansion = SIZES[size]
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=expansion * width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_WIDTH,
        num_key_value_heads=width // HEAD_WIDTH,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


def non_embedding_parameters(model: Qwen2ForCausalLM) -> int:
    """Parameters outside the input embedding and the output head."""
    return sum(parameter.numel() for name, parameter in model.model.layers.named_parameters())
