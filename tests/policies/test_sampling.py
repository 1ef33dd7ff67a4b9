"""The sampler against ``generate``: the same greedy tokens, the same distribution, and nothing left behind."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from repro import policies
from repro.policies import sampling
from repro.policies.cache import ROOM
from repro.policies.sampling import pad_left, sample_tokens
from repro.tasks import get_task

PAD, EOS = 0, 1
LETTERS = 5
LONGEST = 3


@pytest.fixture(scope="module")
def base():
    return policies.load("s")


@pytest.fixture(scope="module")
def small():
    """An untrained policy over 5 tokens that are far from equally likely."""
    torch.manual_seed(3)
    config = Qwen2Config(
        vocab_size=LETTERS,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(15)
    return model


def draw(model, prompts, samples=1, *, seed=0, **settings):
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return sample_tokens(
            model,
            prompts,
            samples,
            **({"temperature": 1.0, "max_new_tokens": LONGEST, "eos": EOS, "pad": PAD} | settings),
        )


def log_probs(model, prompt, completions, temperature=1.0):
    """Log-probabilities of whole completions of one length, from one forward pass without a cache, ``[n]``."""
    rows = torch.tensor([[*prompt, *completion] for completion in completions])
    with torch.no_grad():
        steps = torch.log_softmax(model(rows).logits[:, len(prompt) - 1 : -1] / temperature, -1)
    return steps.gather(2, rows[:, len(prompt) :, None]).sum((1, 2))


def outcomes(model, prompt, temperature=1.0):
    """Probability of every completion of at most ``LONGEST`` tokens, enumerated."""
    found = {}
    for length in range(1, LONGEST + 1):
        inner = [token for token in range(LETTERS) if token != EOS]
        last = range(LETTERS) if length == LONGEST else [EOS]
        completions = [(*begin, end) for begin in itertools.product(inner, repeat=length - 1) for end in last]
        probabilities = log_probs(model, prompt, completions, temperature).double().exp().tolist()
        found |= dict(zip(completions, probabilities, strict=True))
    return found


def p_value(probabilities, completions):
    """Of Pearson's test that completions were drawn with these probabilities; rare ones count as one."""
    counts, n = Counter(map(tuple, completions)), len(completions)
    assert set(counts) <= set(probabilities)
    common = [outcome for outcome, probability in probabilities.items() if probability * n >= 10]
    observed = [counts[outcome] for outcome in common]
    expected = [probabilities[outcome] * n for outcome in common]
    observed, expected = [*observed, n - sum(observed)], [*expected, n - sum(expected)]
    keep = np.array(expected) > 1
    observed, expected = np.array(observed)[keep], np.array(expected)[keep]
    return chisquare(observed, expected * observed.sum() / expected.sum()).pvalue


def test_greedy_tokens_are_those_of_generate(base):
    model, tokenizer = base
    # With each strategy's letter put in its mouth; its greedy choice of strategy would be the same everywhere.
    problems = get_task("arithmetic").dataset("validation", 5, 40)["prompt"]
    prompts = tokenizer([prompt + "spg"[index % 3] for index, prompt in enumerate(problems)])["input_ids"]
    assert len(set(map(len, prompts))) > 3
    ours = draw(
        model, prompts, temperature=0, max_new_tokens=12, eos=tokenizer.eos_token_id, pad=tokenizer.pad_token_id
    )
    rows = pad_left(prompts, tokenizer.pad_token_id)
    theirs = model.generate(
        input_ids=rows,
        attention_mask=(rows != tokenizer.pad_token_id).long(),
        generation_config=GenerationConfig(
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            disable_compile=True,
        ),
    )[:, rows.size(1) :]
    longest = max(map(len, ours))
    assert torch.equal(torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in ours]), theirs)
    # Some ended long before others, so that the batch has shrunk on the way.
    assert len(set(map(len, ours))) > 3


def test_long_greedy_tokens_are_those_of_a_forward_pass_without_a_cache(small):
    """Longer than the room that a cache gets at a time, with completions that leave on the way."""
    prompts = [[2, 3], [4], [2, 2, 4, 3]]
    longest = 2 * ROOM + 9
    drawn = draw(small, prompts, temperature=0, max_new_tokens=longest, eos=LETTERS)  # no token is the end
    assert [len(row) for row in drawn] == [longest] * 3
    for prompt, completion in zip(prompts, drawn, strict=True):
        with torch.no_grad():
            logits = small(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        assert logits.argmax(-1).tolist() == completion
    # The same with one that ends early: the others' cache is selected from, and they go on as before.
    eos = drawn[0][1]
    for row, whole in zip(draw(small, prompts, temperature=0, max_new_tokens=longest, eos=eos), drawn, strict=True):
        assert row == (whole[: whole.index(eos) + 1] if eos in whole else whole)


def test_samples_have_the_probabilities_of_a_forward_pass(base):
    """The first two tokens of 20,000 completions of one prompt, beside another prompt that is longer."""
    model, tokenizer = base
    prompt, other = tokenizer(["7+3*4-2:", "7+3*4-2+5*6-1:"])["input_ids"]
    settings = {"max_new_tokens": 2, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    drawn = draw(model, [prompt, other], 20_000, **settings)[:20_000]
    vocabulary = range(len(tokenizer))
    pairs = list(itertools.product(vocabulary, vocabulary))
    both = dict(zip(pairs, log_probs(model, prompt, pairs).double().exp().tolist(), strict=True))
    ended = sum(probability for (first, _), probability in both.items() if first == tokenizer.eos_token_id)
    both = {pair: value for pair, value in both.items() if pair[0] != tokenizer.eos_token_id}
    both[(tokenizer.eos_token_id,)] = ended
    assert sum(both.values()) == pytest.approx(1, abs=1e-5)
    assert p_value(both, drawn) > 1e-3
    # The test would see a policy whose temperature were 1.1 in place of 1.
    warmer = dict(zip(pairs, log_probs(model, prompt, pairs, 1.1).double().exp().tolist(), strict=True))
    assert p_value(warmer, [row for row in drawn if len(row) == 2]) < 1e-6


@pytest.mark.parametrize("leave", [1, 8, 10**9])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_whole_completions_have_their_probabilities_whenever_ended_ones_leave(small, monkeypatch, leave, temperature):
    """At once when all have ended, when an eighth has, and at the first that has."""
    monkeypatch.setattr(sampling, "LEAVE", leave)
    prompts = [[2], [3, 4, 2, 2], [4, 3]]
    drawn = draw(small, prompts, 4000, seed=1, temperature=temperature)
    for place, prompt in enumerate(prompts):
        probabilities = outcomes(small, prompt, temperature)
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        own = drawn[place * 4000 : (place + 1) * 4000]
        assert p_value(probabilities, own) > 1e-3, prompt
        assert 0.02 < np.mean([row[-1] == EOS for row in own]) < 0.95
    other = draw(small, prompts, 4000, seed=2, temperature=temperature)
    assert p_value(outcomes(small, prompts[0], 2 * temperature), other[:4000]) < 1e-6


def test_completions_end_at_the_first_end_or_at_the_length(small):
    for row in draw(small, [[2], [3, 4]], 500, max_new_tokens=4):
        assert 1 <= len(row) <= 4
        assert EOS not in row[:-1]
        assert row[-1] == EOS or len(row) == 4
    assert {len(row) for row in draw(small, [[2]], 500, max_new_tokens=1)} == {1}
    assert len(draw(small, [[2]])) == 1 and len(draw(small, [[2], [3, 4], [2, 2, 2]], 2)) == 6


def test_all_completions_may_end_at_once(small):
    """With a bias that leaves nothing but the end."""
    forced = Qwen2ForCausalLM(small.config).eval()
    forced.lm_head = torch.nn.Linear(small.config.hidden_size, LETTERS)
    with torch.no_grad():
        forced.lm_head.bias[EOS] = 1e4
    assert draw(forced, [[2], [3, 4]], 3) == [[EOS]] * 6
    with torch.no_grad():
        forced.lm_head.bias[EOS] = -1e4
    assert {len(row) for row in draw(forced, [[2], [3, 4]], 3, max_new_tokens=5)} == {5}


def test_samples_of_a_prompt_stand_together(small):
    """With a policy that all but repeats its last token, each completion tells which prompt it is of."""
    echo = Qwen2ForCausalLM(small.config).eval()
    with torch.no_grad():
        for layer in echo.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        echo.model.embed_tokens.weight.copy_(torch.eye(LETTERS, small.config.hidden_size))
        echo.lm_head.weight.copy_(20 * torch.eye(LETTERS, small.config.hidden_size))
    assert draw(echo, [[2], [4, 3], [2, 3, 4]], 2) == [[2] * 3] * 2 + [[3] * 3] * 2 + [[4] * 3] * 2


@pytest.mark.parametrize("training", [True, False])
def test_the_policy_is_left_as_it_was(small, training):
    small.train(training)
    before = [parameter.clone() for parameter in small.parameters()]
    first = draw(small, [[2], [3, 4]], 8)
    assert all(module.training is training for module in small.modules())
    assert draw(small, [[2], [3, 4]], 8) == first  # the second call finds no cache of the first
    assert draw(small, [[2], [3, 4]], 8, seed=1) != first
    assert all(map(torch.equal, before, small.parameters())) and all(p.grad is None for p in small.parameters())
    small.forward, forward = fail, small.forward
    try:
        with pytest.raises(ZeroDivisionError):
            draw(small, [[2]])
    finally:
        small.forward = forward
    assert small.training is training
    small.eval()


def fail(*args, **kwargs):
    raise ZeroDivisionError


def test_padding_is_on_the_left():
    assert pad_left([[5], [6, 7, 8]], 0).tolist() == [[0, 0, 5], [6, 7, 8]]
