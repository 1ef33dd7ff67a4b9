"""Accuracy, pass@k and the isolation of evaluation from training's random state."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from repro.policies.family import make_model, make_tokenizer
from repro.runs import evaluation
from repro.runs.evaluation import Completions, evaluate, fixed_seed, pass_at_k, sample
from repro.tasks.arithmetic import ARITHMETIC, ArithmeticTask
from repro.tasks.grading import Grade, Verdict


@pytest.fixture(scope="module")
def policy():
    tokenizer = make_tokenizer(ARITHMETIC)
    torch.manual_seed(0)
    return make_model("s", tokenizer), tokenizer


def test_pass_at_k_by_hand():
    # 4 samples, 1 right: a draw of 2 of them misses it with probability C(3,2)/C(4,2) = 1/2.
    assert pass_at_k(np.array([1]), 4, 2) == pytest.approx(0.5)
    assert pass_at_k(np.array([0, 4]), 4, 4) == pytest.approx(0.5)
    assert pass_at_k(np.array([1, 3]), 4, 1) == pytest.approx(0.5)


def test_evaluation_leaves_the_random_state_alone_and_repeats(policy):
    model, tokenizer = policy
    problems = ARITHMETIC.dataset("validation", 0, 12)
    settings = {"samples": 4, "temperature": 1.0, "max_completion_length": 6}
    model.train()
    before = torch.get_rng_state()
    first = evaluate(model, tokenizer, ARITHMETIC, problems, seed=1, **settings)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training
    assert evaluate(model, tokenizer, ARITHMETIC, problems, seed=1, **settings) == first
    assert set(first.row) >= {"accuracy/mean", "accuracy/greedy", "accuracy/pass@2", "accuracy/pass@4", "k"}
    assert not {"accuracy/pass@8", "accuracy/rollout"} & set(first.row)
    assert first.answers == []
    levels = {f"accuracy/level_{level}" for level in problems["level"]}
    assert levels <= set(first.row)


def test_what_is_asked_for_beside_the_accuracy_leaves_it_as_it_was(policy):
    problems = ARITHMETIC.dataset("validation", 0, 12)
    settings = {"samples": 4, "temperature": 0.6, "max_completion_length": 6, "seed": 1}
    plain = evaluate(*policy, ARITHMETIC, problems, **settings)
    more = evaluate(*policy, ARITHMETIC, problems, **settings, rollout_samples=2, rollout_temperature=1.0, keep=3)
    assert {name: value for name, value in more.row.items() if name != "accuracy/rollout"} == plain.row
    assert 0 <= more.row["accuracy/rollout"] <= 1
    assert [(answer["problem"], answer["decoding"]) for answer in more.answers] == [
        (problem, decoding) for problem in range(3) for decoding in ("greedy", "sampled", "sampled", "sampled")
    ]


def test_rollout_samples_have_a_temperature_of_their_own_and_kept_answers_their_marks(policy, monkeypatch):
    problems = ARITHMETIC.dataset("validation", 0, 2)
    right, wrong = [f"={answer}" for answer in problems["answer"]], "=x"
    by_temperature = {
        0.6: [right[0], wrong, wrong, wrong],
        0: [wrong, right[1]],
        1.3: [right[0], wrong, right[1], wrong],
    }

    def sampled(*_, temperature, **__):
        texts = by_temperature[temperature]
        return Completions(texts, [2] * len(texts))

    monkeypatch.setattr("repro.runs.evaluation.sample", sampled)
    settings = {"samples": 2, "temperature": 0.6, "max_completion_length": 4, "seed": 0}
    found = evaluate(*policy, ARITHMETIC, problems, **settings, rollout_samples=2, rollout_temperature=1.3, keep=9)
    assert (found.row["accuracy/mean"], found.row["accuracy/rollout"]) == (0.25, 0.5)
    assert [answer["correct"] for answer in found.answers] == [False, True, False, True, False, False]
    assert {answer["prompt"] for answer in found.answers} == set(problems["prompt"])


def test_accuracy_counts_right_completions(policy, monkeypatch):
    model, tokenizer = policy
    problems = ARITHMETIC.dataset("validation", 0, 2)
    right, wrong = [f"={answer}" for answer in problems["answer"]], "=x"

    def completions(model, tokenizer, prompts, samples=1, *, temperature, max_completion_length):
        assert (prompts, samples) == (list(problems["prompt"]), 2 if temperature else 1)
        texts = [right[0], wrong, wrong, wrong] if temperature else [wrong, right[1]]
        return Completions(texts, [7] * len(texts))

    monkeypatch.setattr("repro.runs.evaluation.sample", completions)
    settings = {"samples": 2, "temperature": 1.0, "max_completion_length": 4}
    result = evaluate(model, tokenizer, ARITHMETIC, problems, seed=0, **settings).row
    assert result["accuracy/mean"] == 0.25
    assert result["accuracy/greedy"] == 0.5
    assert result["accuracy/pass@2"] == 0.5
    assert result["completion_length/mean"] == 2  # characters, as the task's tokens are
    monkeypatch.setattr(ArithmeticTask, "separator", " ")
    assert evaluate(model, tokenizer, ARITHMETIC, problems, seed=0, **settings).row["completion_length/mean"] == 1
    # A task without tokens of its own is measured in those that were sampled; levels may be unknown.
    words = SimpleNamespace(verify=lambda completion, answer: completion == answer)
    unknown = problems.remove_columns("level").add_column("level", [None, None])
    found = evaluate(model, tokenizer, words, unknown, seed=0, **settings).row
    assert found["completion_length/mean"] == 7 and not any("level" in name for name in found)


def test_greedy_decoding_is_sampled_once_and_lenient_scores_stand_beside(policy, monkeypatch):
    model, tokenizer = policy
    problems = ARITHMETIC.dataset("validation", 0, 3)
    answers, calls = [], []

    def completions(model, tokenizer, prompts, samples=1, *, temperature, max_completion_length):
        calls.append((samples, temperature))
        return Completions(["right", "meant", "wrong"], [1, 1, 1])

    def grade(completion, answer):
        answers.append(answer)
        there, right = completion != "wrong", Verdict(True, "text")
        return Grade(right if completion == "right" else None, right if there else Verdict(False, "undecided"))

    def verify(completion, answer):
        return grade(completion, answer).strict_right

    task = SimpleNamespace(family="", held_out=(), dataset=print, verify=verify, grade=grade)
    monkeypatch.setattr("repro.runs.evaluation.sample", completions)
    found = evaluate(model, tokenizer, task, problems, samples=1, temperature=0.0, max_completion_length=4, seed=0).row
    assert calls == [(1, 0.0)]
    assert found["accuracy/mean"] == found["accuracy/greedy"] == pytest.approx(1 / 3)
    assert found["accuracy/lenient"] == pytest.approx(2 / 3)
    assert found["accuracy/undecided"] == pytest.approx(1 / 3)
    assert answers[-3:] == list(problems["answer"])


def test_sampling_follows_the_seed_and_stops_at_the_length(policy):
    model, tokenizer = policy
    draw = {"temperature": 1.0, "max_completion_length": 5}
    texts = []
    for seed in (0, 0, 1):
        with fixed_seed(seed):
            texts.append(sample(model, tokenizer, ["1+2:"], 8, **draw))
    assert texts[0] == texts[1] != texts[2]
    greedy = [sample(model, tokenizer, ["1+2:"], temperature=0, max_completion_length=5) for _ in range(2)]
    assert greedy[0] == greedy[1]
    assert all(len(text) <= 5 * len("<unk>") for text in texts[0].texts)
    # Each token of the policy but the special ones is a character.
    assert texts[0].lengths == [len(text) for text in texts[0].texts]


def test_samples_stand_together_and_chunks_do_not_mix_them(policy, monkeypatch):
    """Greedy completions tell whose they are: two chunks of prompts give what one does."""
    model, tokenizer = policy
    prompts = ["1+2:", "7*8-1+3:", "9-4*2:", "3:", "5*5*5:"]
    settings = {"temperature": 0, "max_completion_length": 5}
    alone = [sample(model, tokenizer, [prompt], **settings).texts[0] for prompt in prompts]
    assert len(set(alone)) > 1
    thrice = [text for text in alone for _ in range(3)]
    assert sample(model, tokenizer, prompts, 3, **settings).texts == thrice
    for rows in (1, 7):
        monkeypatch.setattr(evaluation, "ROWS", rows)
        assert sample(model, tokenizer, prompts, 3, **settings).texts == thrice
