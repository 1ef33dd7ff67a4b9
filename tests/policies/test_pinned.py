"""Pinned policies: any family of transformers, sharded or not, loaded as pinned, prompted and adapted as set."""

import json
import sys

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import GenerationConfig

from repro import pins, policies
from repro.errors import BaseError, ConfigError, PinError
from repro.policies.published import PUBLISHED
from repro.policies.sampling import sample_tokens
from repro.policies.settings import Lora, PolicySettings
from repro.policies.templates import R1_ZERO, in_template
from repro.runs import RunConfig
from tests.standins import byte_tokenizer, checkpoint


@pytest.fixture
def pinned(tmp_path, monkeypatch):
    """Makes a checkpoint of a family and pins its folder; returns the policy's name."""
    monkeypatch.setenv("REPRO_BUILD", str(tmp_path / "build"))

    def make(family, **more):
        return pins.pin(str(checkpoint(tmp_path / family, family, **more)))[1]

    return make


@pytest.mark.parametrize(
    ("family", "sharded", "dtype"),
    [("qwen2", True, torch.float32), ("llama", False, torch.bfloat16), ("mistral", True, torch.float16)],
)
def test_every_family_is_loaded_as_it_was_saved(pinned, family, sharded, dtype):
    name = pinned(family, sharded=sharded, dtype=dtype)
    model, tokenizer = policies.load(name)
    assert type(model).__name__.lower() == f"{family}forcausallm"
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        fresh = type(model)(model.config).to(dtype)
    for expected, found in zip(fresh.parameters(), model.parameters(), strict=True):
        assert torch.equal(expected, found)
    text = "1+1=2 é\n<|im_end|>"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=False).removeprefix("<|begin|>") == text
    assert tokenizer.padding_side == "left" and tokenizer.pad_token is not None
    assert policies.identity(name) == pins.get("model", name).digest == RunConfig(base=name).base_sha256


def test_dtype_and_attention_are_as_set(pinned):
    name = pinned("qwen2")
    model, _ = policies.load(name, PolicySettings(dtype="bfloat16", attn_implementation="eager"))
    assert model.dtype == torch.bfloat16 and model.config._attn_implementation == "eager"


def test_prompts_that_hold_the_padding_token_are_read_whole(pinned):
    """Llama's tokenizer pads with its end token here, which a chat has in it: a shorter row still reads its own."""
    model, tokenizer = policies.load(pinned("llama"))
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
    prompts = [tokenizer(text)["input_ids"] for text in ("<|im_end|>a<|im_end|>", "longer than the other<|im_end|>")]
    settings = {"temperature": 0, "max_new_tokens": 6, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    together = sample_tokens(model, prompts, **settings)
    greedy = GenerationConfig(max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=tokenizer.eos_token_id)
    for prompt, found in zip(prompts, together, strict=True):
        assert prompt.count(tokenizer.pad_token_id) > 0
        rows = torch.tensor([prompt])
        expected = model.generate(rows, attention_mask=torch.ones_like(rows), generation_config=greedy)[
            0, len(prompt) :
        ]
        assert found == expected.tolist()


def test_adapters_are_drawn_from_the_seed_and_alone_are_trained(pinned):
    name = pinned("mistral")
    settings = PolicySettings(lora=Lora(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))
    state = torch.get_rng_state()
    models = [policies.load(name, settings, seed=seed)[0] for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(isinstance(model, PeftModel) for model in models)
    trained = [{n: p for n, p in model.named_parameters() if p.requires_grad} for model in models]
    assert len(trained[0]) == 2 * 2 * 2 and all("lora_" in name for name in trained[0])
    same = [all(torch.equal(trained[0][n], other[n]) for n in other) for other in trained[1:]]
    assert same == [True, False]
    assert models[0].peft_config["default"].r == 4
    with pytest.raises(ConfigError, match="policy.lora does not fit the model: Target modules .*k_project"):
        policies.load(name, PolicySettings(lora=Lora(target_modules=["k_project"])))


def test_what_a_setting_needs_is_asked_for_before_anything_is_loaded(monkeypatch):
    bits = PolicySettings(load_in_4bit=True, lora=Lora())
    with pytest.raises(ConfigError, match="policy.load_in_4bit=True needs adapters to train: add lora"):
        policies.load("hub:none/none", PolicySettings(load_in_4bit=True))
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="policy.load_in_4bit=True needs the package bitsandbytes: install it, or"):
        policies.load("hub:none/none", bits)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match="policy.lora needs the package peft: install it, or leave lora out"):
        policies.load("hub:none/none", bits)
    with pytest.raises(PinError, match="model 'hub:none/none' is not pinned; `python -m repro pin none/none`"):
        policies.load("hub:none/none")


def rewrite(folder, name, **fields):
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        # Qwen2's tensors have Llama's names and its biases besides.
        (
            {"model_type": "llama"},
            "pinned as the architecture Qwen2ForCausalLM, and as a causal .* be a LlamaForCausalLM",
        ),
        ({"architectures": ["Qwen2Model"]}, "pinned as the architecture Qwen2Model, and as .* be a Qwen2ForCausalLM"),
        ({"model_type": "unheard"}, "cannot be loaded as a causal language model: .*unheard"),
        ({"num_hidden_layers": 3}, "cannot be loaded as a causal language model: .*must be equal to the number of"),
        ({"intermediate_size": 65}, "the weights in .* do not fit its config.json: 6 mismatched tensors"),
    ],
)
def test_another_architecture_is_refused(tmp_path, monkeypatch, fields, message):
    monkeypatch.setenv("REPRO_BUILD", str(tmp_path / "build"))
    folder = checkpoint(tmp_path / "odd", "qwen2")
    rewrite(folder, "config.json", **fields)
    pins.pin(str(folder))
    with pytest.raises(BaseError, match=message):
        policies.load("local:odd")


def test_a_tokenizer_without_an_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRO_BUILD", str(tmp_path / "build"))
    folder = checkpoint(tmp_path / "endless", "qwen2")
    rewrite(folder, "tokenizer_config.json", eos_token=None)
    pins.pin(str(folder))
    with pytest.raises(BaseError, match="the tokenizer in .*endless has no end-of-sequence token"):
        policies.load("local:endless")


def test_a_question_in_the_chat_template_begins_once():
    """Llama's chat template begins with the token that its tokenizer puts first anyway."""
    problems = Dataset.from_dict({"prompt": ["1+1?"], "answer": ["2"], "level": [1]})
    for bos in (True, False):
        tokenizer = byte_tokenizer(bos=bos, chat=True)
        (asked,) = in_template(problems, "chat", tokenizer)["prompt"]
        assert asked == "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
        chat = [{"role": "user", "content": "1+1?"}]
        whole = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        assert tokenizer(asked)["input_ids"] == whole
    assert in_template(problems, "chat", tokenizer)["answer"] == ["2"]
    assert in_template(problems, "plain", tokenizer) is problems


def test_a_question_in_r1_zeros_template_stands_in_its_place():
    tokenizer = byte_tokenizer(bos=True, chat=False)
    problems = Dataset.from_dict({"prompt": ["What is {question}?"]})
    (asked,) = in_template(problems, "r1_zero", tokenizer)["prompt"]
    assert asked.startswith("A conversation between User and Assistant. ")
    assert asked.endswith("User: What is {question}?.\nAssistant: Let me solve this step by step.\n<think>")
    assert asked == R1_ZERO.replace("{question}", "What is {question}?")
    with pytest.raises(ConfigError, match="policy.template='chat' needs a tokenizer with a chat template"):
        in_template(problems, "chat", tokenizer)


def test_the_papers_eleven_base_models_are_bases_of_runs():
    assert len({one.base for one in PUBLISHED.values()}) == 11
    families = [one.base.partition("/")[0] for one in PUBLISHED.values()]
    assert [families.count(f"hub:{name}") for name in ("Qwen", "mistralai", "meta-llama", "deepseek-ai")] == [
        5,
        3,
        2,
        1,
    ]
    for one in PUBLISHED.values():
        assert RunConfig(**one.fields).policy.template == "r1_zero"
