"""The embedded family, its tokenizer and its base policies."""

import dataclasses
import hashlib
import json
import random
import sys
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from repro import paths, policies
from repro.errors import BaseError, ConfigError
from repro.policies import base, embedded
from repro.policies.base import make_bases, train_base
from repro.policies.family import SIZES, make_model, make_tokenizer, non_embedding_parameters
from repro.policies.recipes import RECIPES, SHIPPED, BaseRecipe
from repro.policies.sampling import sample_tokens
from repro.policies.settings import PolicySettings
from repro.runs import fingerprint
from repro.tasks import get_task
from repro.tasks.arithmetic import ARITHMETIC
from repro.tasks.arithmetic.strategies import MIXTURES

# The least share of problems on which each strategy is carried out as it should be.
AGREEMENT = {
    # Too small for either kind of working in this many steps: it has learned to guess.
    "xs": {"s": 0.0, "p": 0.0, "g": 0.2},
    **{name: {"s": 0.8, "p": 0.8, "g": 0.25} for name in ("s", "sm", "m")},
    "explore": {"s": 0.8, "p": 0.4, "g": 0.15},
    "single": {"p": 0.9},
}

SHAPE = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
BIAS = "model.layers.0.self_attn.q_proj.bias"
CHARACTERS = "".join(ARITHMETIC.tokens)
TINY = BaseRecipe("s", clean_steps=2, mixture_steps=2, batch_size=4)


def put_bases_in(folder, monkeypatch):
    for module in (base, embedded):
        monkeypatch.setattr(module, "bases_dir", lambda: folder)


def test_tokenizer_is_one_token_a_character_and_round_trips(tmp_path):
    tokenizer = make_tokenizer(ARITHMETIC)
    ids = tokenizer(CHARACTERS)["input_ids"]
    assert len(ids) == len(CHARACTERS) == len(set(ids))
    assert tokenizer.decode(ids) == CHARACTERS
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("7+3*4-2:")["input_ids"] == tokenizer("7+3*4-2:")["input_ids"]
    assert loaded.padding_side == "left"
    assert loaded("1é+")["input_ids"][1] == loaded.unk_token_id
    assert loaded.batch_decode([[loaded.pad_token_id, *ids, loaded.eos_token_id]], skip_special_tokens=True) == [
        CHARACTERS
    ]


@pytest.mark.parametrize(
    ("size", "millions"),
    [("xs", 0.033), ("s", 0.13), ("sm", 0.30), ("sm3", 0.36), ("m", 0.53), ("l", 2.1), ("xl", 8.4)],
)
def test_sizes(size, millions):
    with torch.device("meta"):
        model = make_model(size, make_tokenizer(ARITHMETIC))
    assert non_embedding_parameters(model) == pytest.approx(millions * 1e6, rel=0.03)


def test_an_unknown_size_names_the_known_ones():
    with pytest.raises(ConfigError, match="'xxl' is unknown; the sizes are xs, s, sm, sm3, m, l, xl"):
        make_model("xxl", make_tokenizer(ARITHMETIC))
    assert list(SIZES) == ["xs", "s", "sm", "sm3", "m", "l", "xl"]


def test_training_a_base_repeats_and_follows_its_seed():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    losses = []
    weights = []
    for seed in (0, 0, 1):
        model, _ = train_base(dataclasses.replace(TINY, seed=seed), on_step=lambda step, loss: losses.append(loss))
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert losses[:4] == losses[4:8]
    assert torch.equal(torch.get_rng_state(), state)


def test_a_made_base_loads_and_names_its_recipe(tmp_path, monkeypatch):
    put_bases_in(tmp_path, monkeypatch)
    monkeypatch.setattr(base, "RECIPES", {"tiny": TINY})
    (folder,) = make_bases(["tiny"])
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["recipe"] == dataclasses.asdict(TINY)
    assert provenance["command"] == "python -m repro bases tiny"
    model, tokenizer = policies.load("tiny")
    assert isinstance(AutoModelForCausalLM.from_pretrained(folder), type(model))
    assert tokenizer.eos_token_id == model.config.eos_token_id
    assert tokenizer.backend_tokenizer.to_str() == make_tokenizer(ARITHMETIC).backend_tokenizer.to_str()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    make_bases(["tiny"])  # a second time replaces it
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]

    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(BaseError, match=r"model\.safetensors is not the file its provenance\.json names"):
        policies.load("tiny")


def put_base(folder, model, tensors=None):
    """A base policy as it stands in the folder of bases, its provenance in order."""
    model.save_pretrained(folder, state_dict=tensors)
    make_tokenizer(ARITHMETIC).save_pretrained(folder)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "provenance.json").write_text(json.dumps({"sha256": digest}))


def test_another_architecture_is_refused(tmp_path, monkeypatch):
    # Llama's tensors have Qwen2's names, all but the biases: those would be initialised afresh.
    put_bases_in(tmp_path, monkeypatch)
    ours = make_model("xs", make_tokenizer(ARITHMETIC))
    put_base(tmp_path / "llama", LlamaForCausalLM(LlamaConfig(**{n: getattr(ours.config, n) for n in SHAPE})))
    with pytest.raises(BaseError, match="llama holds the architecture LlamaForCausalLM, and a base policy is a Qwen2"):
        policies.load("llama")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(BIAS), rf"1 missing tensors, such as {BIAS}; put back the files"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "1 unexpected tensors, such as extra"),
        (lambda tensors: tensors.update({BIAS: torch.zeros(3)}), rf"1 mismatched tensors, such as .*{BIAS}"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, monkeypatch, change, message):
    put_bases_in(tmp_path, monkeypatch)
    model = make_model("xs", make_tokenizer(ARITHMETIC))
    tensors = model.state_dict()
    change(tensors)
    put_base(tmp_path / "damaged", model, tensors)
    with pytest.raises(BaseError, match=message):
        policies.load("damaged")


def test_a_missing_base_and_an_unknown_recipe(tmp_path, monkeypatch):
    put_bases_in(tmp_path, monkeypatch)
    # The remedy is a command that works: where there is no recipe, none is named.
    with pytest.raises(BaseError, match=r"'huge' is missing: .*; no recipe makes it, the recipes are xs, s"):
        policies.load("huge")
    with pytest.raises(BaseError, match="'xl' is missing: there is no .*; `python -m repro bases xl` makes it"):
        policies.load("xl")
    with pytest.raises(ConfigError, match="'huge' has no recipe; the recipes are xs, s, sm, m, l, xl, explore, single"):
        make_bases(["huge"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_bases_are_those_of_the_recipes(name):
    provenance = json.loads((paths.bases_dir() / name / "provenance.json").read_text())
    assert provenance["recipe"] == dataclasses.asdict(RECIPES[name])
    assert provenance["sha256"] == policies.identity(name)
    _, tokenizer = policies.load(name)
    assert set(get_task(RECIPES[name].task).tokens) < set(tokenizer.get_vocab())


@pytest.mark.parametrize("name", AGREEMENT)
def test_bases_of_arithmetic_have_learned_their_strategies(name):
    model, tokenizer = policies.load(name)
    # Greedily, and with a strategy's letter put in its mouth, a base writes what the strategy writes without slips.
    problems = [ARITHMETIC.problem("validation", 0, index) for index in range(200)]
    agree, right = {}, {}
    for strategy in MIXTURES[RECIPES[name].mixture].strategies:
        prompts = tokenizer([problem.prompt + strategy.mark for problem in problems])["input_ids"]
        tokens = sample_tokens(
            model,
            prompts,
            temperature=0,
            max_new_tokens=12,
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
        )
        texts = [strategy.mark + text for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        clean = [strategy.solution(problem, random.Random(0), clean=True) for problem in problems]
        agree[strategy.mark] = sum(map(str.__eq__, texts, clean)) / len(texts)
        right[strategy.mark] = sum(map(ARITHMETIC.verify, texts, [problem.answer for problem in problems])) / len(texts)
    assert all(agree[mark] > least for mark, least in AGREEMENT[name].items()), agree
    assert set(agree) == set(AGREEMENT[name])
    # Where exploring pays, the reliable strategy has been learned and the common ones are often wrong.
    if name == "explore":
        assert right["s"] > 0.8 and max(right["p"], right["g"]) < 0.6


def test_a_policy_of_an_unknown_source_names_the_known_ones(monkeypatch):
    for name in ("hug:Qwen/Qwen2.5-0.5B", ":s"):
        with pytest.raises(BaseError, match=f"'{name}' is from an unknown source; the prefixes are hub:, local:, and"):
            policies.load(name)
    monkeypatch.setitem(policies.SOURCES, "made", f"{__name__}:Made")
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(Made=Made))
    assert policies.load("made:of:it") == ("of:it", "tokenizer")
    assert policies.identity("made:of:it") == "id of:it"
    with pytest.raises(BaseError, match="policy 'else:s' .* the prefixes are hub:, local:, made:, and a base has none"):
        policies.identity("else:s")


def test_settings_of_pinned_policies_are_not_for_a_base():
    with pytest.raises(ConfigError, match=r"policy=\{'template': 'chat'\} is for a pinned policy, and 's' is a base"):
        policies.load("s", PolicySettings(template="chat"))


def test_the_first_colon_ends_a_prefix_for_loading_and_for_the_fingerprint():
    assert policies.split("made:of:it") == ("made", "of:it") and policies.split("s") == ("", "s")
    source = fingerprint.CHOSEN["repro.policies.SOURCES"]
    assert source(SimpleNamespace(base="made:of:it")) == "made" and source(SimpleNamespace(base="s")) == ""


class Made:
    """A source of policies that are their own names."""

    def load(self, name, settings, seed):
        return name, "tokenizer"

    def identity(self, name):
        return f"id {name}"
