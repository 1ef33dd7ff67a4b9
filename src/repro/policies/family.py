"""The embedded family: Qwen2-architecture policies of several sizes over a character tokenizer.

Depth stays at two layers and only the width changes, so that size is one number. Non-embedding parameters, with
4 d^2 for attention, 12 d^2 for the gated MLP of width 4 d and a little for biases and norms:
xs 0.03 M, s 0.13 M, sm 0.30 M, m 0.53 M, l 2.1 M, xl 8.4 M.
"""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from repro.errors import ConfigError
from repro.tasks.arithmetic import ANSWER_MARK, END_OF_PROMPT, OPERATORS

WIDTHS = {"xs": 32, "s": 64, "sm": 96, "m": 128, "l": 256, "xl": 512}
LAYERS = 2
HEAD_WIDTH = 32
MAX_LENGTH = 64
PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
CHARACTERS = "0123456789" + OPERATORS + END_OF_PROMPT + ANSWER_MARK + "spg"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token a character, saved and loaded like any other of transformers."""
    vocabulary = {token: index for index, token in enumerate([PAD, EOS, UNKNOWN, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def make_model(size: str, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """An untrained policy of a size in ``WIDTHS``, initialised from torch's global generator.

    Raises:
        ConfigError: for an unknown size, naming the known ones.
    """
    if size not in WIDTHS:
        raise ConfigError(f"size={size!r} is unknown; the sizes are {', '.join(WIDTHS)}")
    width = WIDTHS[size]
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=LAYERS,
        num_attention_heads=width // HEAD_WIDTH,
        num_key_value_heads=width // HEAD_WIDTH,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


def non_embedding_parameters(model: Qwen2ForCausalLM) -> int:
    """Parameters outside the input embedding and the output head."""
    return sum(parameter.numel() for name, parameter in model.model.layers.named_parameters())
