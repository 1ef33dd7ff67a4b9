"""Countdown: the language and its verifier, the solver against brute force, splits, and searches to learn from."""

import dataclasses
import itertools
import random
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from repro.errors import ConfigError
from repro.policies.family import EOS, make_tokenizer
from repro.tasks.countdown import COUNTDOWN, CountdownTask
from repro.tasks.countdown.language import GIVE_UP, LARGEST, TOKENS, Problem, Step, parse_step, verify
from repro.tasks.countdown.solver import moves, reachable, winning
from repro.tasks.countdown.traces import MIXTURES, Noise, Traces

# 7 * 3 = 21, 21 + 2 = 23, 23 + 1 = 24
PROBLEM = Problem((3, 7, 1, 2), 24)
numbers_of = st.lists(st.integers(1, 20), min_size=2, max_size=4).map(tuple)
problems = st.builds(Problem, numbers_of, st.integers(1, LARGEST))


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("7 * 3 = 21 21 + 2 = 23 23 + 1 = 24", True),
        ("7 + 3 = 10 | 3 * 7 = 21 21 + 2 = 23 1 + 23 = 24", True),
        ("7 + 1 = 8 8 * 3 = 24", True),  # not all numbers are needed
        ("7 + 1 = 8 8 * 3 = 24 24 + 2 = 26", False),  # it goes on from the target
        ("7 + 1 = 8 8 * 3 = 24 |", False),  # and gives up
        ("7 + 1 = 8 8 * 3 = 24 | 7 - 1 = 6", False),
        ("7 - 1 = 5 | 7 + 1 = 8 8 * 3 = 24", False),  # a wrong equation anywhere
        ("7 + 7 = 14 | 7 + 1 = 8 8 * 3 = 24", False),  # there is one 7
        ("7 + 1 = 8 7 + 1 = 8 8 * 3 = 24", False),  # the 7 is spent
        ("8 * 3 = 24", False),  # there is no 8
        ("7 + 1 = 8 | 8 * 3 = 24", False),  # nor in the second attempt
        ("3 - 7 = 4", False),
        ("7 / 3 = 2", False),
        ("7 + 1 = 8 8 * 3 = 24 ", False),
        (" 7 + 1 = 8 8 * 3 = 24", False),
        ("7 + 1 = 8 | | 8 * 3 = 24", False),
        ("| 7 + 1 = 8 8 * 3 = 24", False),
        ("7 +- 1 = 6", False),
        ("7 + 1 = 8 8 * 3 = 24 8 *", False),
        ("07 + 1 = 8 8 * 3 = 24", False),
        ("\u0667 + 1 = 8 8 * 3 = 24", False),  # a digit seven, but not the character 7
        ("24", False),
        ("", False),
    ],
)
def test_verifier_by_hand(completion, right):
    assert verify(completion, PROBLEM) is right
    assert COUNTDOWN.verify(completion, PROBLEM.answer) is right


def slowly(completion: str, problem: Problem) -> bool:
    """The verifier again, in other words: every attempt tried step by step against all steps that there are."""
    last = None
    for attempt in completion.split(" | "):
        left, words = list(problem.numbers), attempt.split(" ")
        if len(words) % 5:
            return False
        while words:
            line, words = " ".join(words[:5]), words[5:]
            true = {
                f"{a} {sign} {b} = {c}": (a, b, c)
                for a, b in itertools.permutations(left, 2)
                for sign, c in (("+", a + b), ("-", a - b), ("*", a * b), ("/", a / b))
                if c in range(1, 101) and c == int(c)
            }
            true = {text.replace(".0", ""): values for text, values in true.items()}
            if line not in true:
                return False
            a, b, last = true[line]
            last = int(last)
            left.remove(a)
            left.remove(b)
            left.append(last)
    return last == problem.target


words = st.sampled_from([*TOKENS, "", "101", "0", "-1", "٣", "1.0", "<eos>", "\n"])


@given(st.text() | st.lists(words, max_size=24).map(" ".join), problems)
@settings(deadline=None)
def test_verifier_takes_any_text(completion, problem):
    assert verify(completion, problem) is slowly(completion, problem)


@given(numbers_of, st.randoms(use_true_random=False), st.integers(0, 3))
@settings(deadline=None)
def test_verifier_agrees_on_searches_and_on_what_one_token_makes_of_them(numbers, rng, changes):
    # Random text is hardly ever right; searches are, and one changed token of theirs often not.
    target = sorted(reachable(tuple(sorted(numbers))))[0]
    problem = Problem(numbers, target)
    tokens = Traces(led=0.5, tokens=48).search(problem, rng, clean=True).split(" ")
    for _ in range(changes):
        tokens[rng.randrange(len(tokens))] = rng.choice(TOKENS)
    text = " ".join(tokens)
    assert verify(text, problem) is slowly(text, problem)
    assert changes or verify(text, problem)


def test_verifier_is_linear_and_evaluates_nothing():
    long = ["7 + 1 = 8 | " * 400_000, "9" * 5_000_000, "| " * 2_500_000, " " * 5_000_000, "7 + 1 = " + "8" * 5_000_000]
    start = time.perf_counter()
    assert not any(verify(text, PROBLEM) for text in long)
    assert time.perf_counter() - start < 20
    assert not verify("__import__('os').system('true')", PROBLEM)


@pytest.mark.parametrize("line", ["7 + 1 = 8", "20 / 5 = 4", "100 - 99 = 1", "10 * 10 = 100"])
def test_a_step_is_read_as_it_is_written(line):
    step = parse_step(line.split(" "))
    assert str(step) == line and step.holds
    assert not step._replace(result=step.result + 1).holds


def brute(numbers: tuple[int, ...]) -> set[int]:
    """All results, by trying every ordered pair and every operator."""
    found = set()
    for a, b in itertools.permutations(range(len(numbers)), 2):
        rest = [number for index, number in enumerate(numbers) if index not in (a, b)]
        x, y = numbers[a], numbers[b]
        for result in {x + y, x - y, x * y, x // y if x % y == 0 else 0}:
            if 1 <= result <= LARGEST:
                found |= {result} | (brute((*rest, result)) if rest else set())
    return found


@given(numbers_of)
@example((1, 1))
@example((20, 20, 20, 20))
@settings(deadline=None, max_examples=60)
def test_solver_finds_what_brute_force_finds(numbers):
    ordered = tuple(sorted(numbers))
    assert reachable(ordered) == brute(numbers)
    for target in (1, 24, 100):
        kept = {step for step, _ in winning(ordered, target)}
        expected = {
            step
            for step, after in moves(ordered)
            if step.result == target or (len(after) > 1 and target in brute(after))
        }
        assert kept == expected
        assert bool(kept) is (target in brute(numbers))


def test_moves_by_hand():
    assert [str(step) for step, _ in moves((2, 6))] == ["6 + 2 = 8", "6 - 2 = 4", "6 * 2 = 12", "6 / 2 = 3"]
    # A difference of 0 and a product above 100 are not in the language; two ways to the same step are one.
    assert [(str(step), after) for step, after in moves((20, 20, 20))] == [
        ("20 + 20 = 40", (20, 40)),
        ("20 / 20 = 1", (1, 20)),
    ]


def test_problems_are_pinned_and_solvable():
    # A change of the generator would silently give every recorded run another task.
    assert COUNTDOWN.problem("train", 0, 0).prompt == "17 6 12 3 -> 44 :"
    assert COUNTDOWN.problem("validation", 0, 0).prompt == "6 14 18 12 -> 38 :"
    assert COUNTDOWN.problem("harder", 0, 0).prompt == "4 3 6 17 1 -> 76 :"
    for split, levels in (("train", {4}), ("validation", {4}), ("harder", {5})):
        made = [COUNTDOWN.problem(split, 3, index) for index in range(200)]
        assert {problem.level for problem in made} == levels
        for problem in made[:50]:
            assert problem.target in reachable(tuple(sorted(problem.numbers)))
            assert problem.target not in problem.numbers
            assert Problem.parse(problem.answer) == problem
    mixed = CountdownTask(levels=((3, 30), (4, 70)))
    levels = [mixed.problem("train", 1, index).level for index in range(2000)]
    assert 0.26 < levels.count(3) / 2000 < 0.34
    # A base policy begins with shorter ones.
    prompts = {
        clean: [COUNTDOWN.demonstration("standard", 0, index, random.Random(0), clean=clean)[0] for index in range(200)]
        for clean in (True, False)
    }
    sizes = {clean: {len(prompt.split(" ")) - 3 for prompt in each} for clean, each in prompts.items()}
    assert sizes == {True: {3, 4}, False: {4}}
    numbers = [number for index in range(2000) for number in COUNTDOWN.problem("train", 1, index).numbers]
    assert set(numbers) == set(range(1, 21))


def test_splits_share_no_content():
    same = dataclasses.replace(COUNTDOWN, levels=((3, 100),), harder_levels=((3, 100),), high=9)
    content = {
        split: {same.problem(split, 0, index).content for index in range(1500)}
        for split in ("train", "validation", "harder")
    }
    assert not content["train"] & (content["validation"] | content["harder"])
    # Whatever the order of their numbers.
    assert Problem((1, 2, 3), 6).content == Problem((3, 1, 2), 6).content != Problem((3, 1, 2), 5).content
    first, second = ([COUNTDOWN.problem("train", seed, index).prompt for index in range(300)] for seed in (0, 1))
    assert not any(one == other for one, other in zip(first[1:], second, strict=False))


def test_every_token_is_one_number_and_texts_come_back():
    tokenizer = make_tokenizer(COUNTDOWN)
    rng = random.Random(1)
    for index in range(100):
        prompt, search = COUNTDOWN.demonstration("standard", 0, index, rng, clean=False)
        for text in (prompt, search):
            ids = tokenizer(text)["input_ids"]
            assert len(ids) == len(text.split(" ")) and tokenizer.unk_token_id not in ids
            assert tokenizer.batch_decode([[*ids, tokenizer.eos_token_id]], skip_special_tokens=True) == [text]
    assert len(tokenizer) == 3 + 100 + 4 + 4
    # Two numbers side by side stay two, and the verifier sees what was sampled.
    assert tokenizer.decode(tokenizer("7 3")["input_ids"]) == "7 3"
    assert EOS in tokenizer.decode([*tokenizer("7 3")["input_ids"], tokenizer.eos_token_id])


@pytest.mark.parametrize("mixture", MIXTURES)
def test_clean_searches_are_right_and_fit(mixture):
    rng = random.Random(0)
    attempts = []
    for index in range(300):
        prompt, search = COUNTDOWN.demonstration(mixture, 1, index, rng, clean=True)
        assert COUNTDOWN.verify(search, prompt.removesuffix(" :"))
        assert len(search.split(" ")) + 1 <= MIXTURES[mixture].tokens
        attempts.append(search.split(f" {GIVE_UP} "))
    assert sum(len(one) > 1 for one in attempts) > 100
    repeated = sum(len(one) - len(set(one)) for one in attempts) / sum(map(len, attempts))
    assert repeated < 0.05


def steps_of(search: str) -> list[Step]:
    tokens = search.replace(f"{GIVE_UP} ", "").split(" ")
    return [parse_step(tokens[start : start + 5]) for start in range(0, len(tokens), 5)]


def test_noise_comes_as_often_as_it_should():
    rng = random.Random(0)
    problem = COUNTDOWN.problem("train", 0, 0)

    def searches(**noise):
        traces = Traces(insight=0.0, noise=Noise(**noise))
        return [traces.search(problem, rng, clean=False) for _ in range(1500)]

    slips = [step.holds for search in searches(slip=0.05) for step in steps_of(search)]
    assert 0.03 < 1 - sum(slips) / len(slips) < 0.07
    assert all(step.holds for search in searches(give_up=0.5) for step in steps_of(search))
    # A misused number is wrong arithmetic too, where it is not a result of the same step.
    assert any(not step.holds for search in searches(misuse=0.05) for step in steps_of(search))
    # Where every search stops after its first attempt, none has a second; where none does, misses go on to the end.
    assert not any(GIVE_UP in search for search in searches(stop=1.0))
    attempts = Traces().tokens // (5 * (problem.level - 1) + 1)
    assert max(search.count(GIVE_UP) for search in searches()) == attempts - 1
    # A given-up attempt has fewer steps than the two others.
    assert all(len(steps_of(search)) == 1 for search in searches(give_up=1.0, stop=1.0))


def test_insight_and_order_are_what_they_say():
    rng = random.Random(0)
    problems = [COUNTDOWN.problem("train", 2, index) for index in range(300)]
    solved = {
        insight: sum(
            GIVE_UP not in (text := Traces(insight=insight, noise=Noise(stop=1.0)).search(one, rng, clean=False))
            and verify(text, one)
            for one in problems
        )
        / len(problems)
        for insight in (0.0, 0.5, 1.0)
    }
    assert solved[0.0] < solved[0.5] < solved[1.0] == 1
    for clean in (True, False):
        steps = [step for one in problems for step in steps_of(Traces().search(one, rng, clean=clean))]
        assert all(step.first >= step.second for step in steps)
        assert {step.operator for step in steps} == {"+", "-", "*", "/"}


def test_bad_settings_name_value_and_remedy():
    with pytest.raises(ConfigError, match="split='test' is unknown; the splits are train, validation, harder"):
        COUNTDOWN.problem("test", 0, 0)
    with pytest.raises(ConfigError, match="mixture='clean' is unknown; the mixtures are standard"):
        COUNTDOWN.demonstration("clean", 0, 0, random.Random(), clean=True)
    with pytest.raises(ConfigError, match=r"levels=\(\(3, 99\),\): give levels of 2 or more, with shares that sum to"):
        CountdownTask(levels=((3, 99),))
    with pytest.raises(ConfigError, match="low=5 and high=5: choose two numbers from 1 to 100"):
        CountdownTask(low=5, high=5)
    with pytest.raises(ConfigError, match=r"slip=1.5 is no probability"):
        Traces(noise=Noise(slip=1.5))
    with pytest.raises(ConfigError, match=r"led=0.7 and greedy=0.7 sum to more than 1"):
        Traces(led=0.7, greedy=0.7)
