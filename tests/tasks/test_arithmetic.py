"""Problems, splits, the verifier and the strategies."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.errors import ConfigError
from repro.tasks import TASKS, AccuracyReward, RandomReward, get_task
from repro.tasks.arithmetic import ARITHMETIC, ArithmeticTask
from repro.tasks.arithmetic.chains import Problem
from repro.tasks.arithmetic.strategies import MIXTURES, Mixture, Strategy
from repro.tasks.draws import split_of

# 7+3 = 10 -> 0; 0*4 = 0; 0-2 = -2 -> 8
verify = ARITHMETIC.verify
CHAIN = Problem(7, (("+", 3), ("*", 4), ("-", 2)))


def test_problem_by_hand():
    assert CHAIN.prompt == "7+3*4-2:"
    assert CHAIN.totals == [0, 0, 8]
    assert CHAIN.answer == "8"
    assert CHAIN.level == 3


def test_problem_is_a_function_of_split_seed_and_index():
    task = get_task("arithmetic")
    assert task.problem("train", 3, 17) == task.problem("train", 3, 17)
    # Pinned: a change of the generator would silently give every recorded run another task.
    assert task.problem("train", 0, 0).prompt == "5*3*7*9*0+4-5:"
    assert task.problem("validation", 0, 0).prompt == "7-6*7*4*5*2+8:"


def test_splits_share_no_item_and_seeds_no_shifted_items():
    task = get_task("arithmetic")
    train = {task.problem("train", 0, index).prompt for index in range(2000)}
    validation = {task.problem("validation", 0, index).prompt for index in range(2000)}
    assert not train & validation
    assert {split_of(prompt) for prompt in train} == {"train"}
    first, second = ([task.problem("train", seed, index).prompt for index in range(500)] for seed in (0, 1))
    assert not any(one == other for one, other in zip(first[1:], second, strict=False))


def test_levels_and_digits_are_evenly_drawn():
    task = ArithmeticTask(levels=(3, 5))
    problems = [task.problem("train", 0, index) for index in range(4000)]
    share = sum(problem.level == 3 for problem in problems) / len(problems)
    assert 0.47 < share < 0.53
    operands = [operand for problem in problems for _, operand in problem.operations]
    assert all(0.085 < operands.count(digit) / len(operands) < 0.115 for digit in range(10))


def test_tasks_train_on_their_levels_and_share_their_validation_problems():
    expected = {"arithmetic": {3, 4, 5, 6, 7, 8}, "arithmetic_easy": {3, 4, 5}, "arithmetic_hard": {6, 7, 8}}
    assert set(TASKS) >= set(expected)
    shared = get_task("arithmetic").dataset("validation", 1, 60)
    assert set(shared["level"]) == expected["arithmetic"]
    for name, levels in expected.items():
        task = get_task(name)
        assert set(task.dataset("train", 1, 60)["level"]) == levels
        assert task.dataset("validation", 1, 60).to_dict() == shared.to_dict()


def test_dataset_columns():
    dataset = get_task("arithmetic").dataset("validation", 5, 7)
    assert dataset.column_names == ["prompt", "answer", "level"]
    assert len(dataset) == 7
    assert dataset[2]["answer"] == get_task("arithmetic").problem("validation", 5, 2).answer


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("s008=8", True),
        ("=8", True),
        ("g=7=8", True),  # the last mark counts
        ("s008=8 ", False),
        ("8", False),
        ("", False),
        ("=", False),
        ("=8=", False),
        ("=08", False),
        ("=__import__('os').system('true')", False),
        ("=8\x00", False),
        ("=\u0668", False),  # a digit eight, but not the character 8
    ],
)
def test_verifier(completion, right):
    assert verify(completion, "8") is right


@given(st.text(), st.sampled_from("0123456789"))
def test_verifier_takes_any_text(completion, answer):
    assert verify(completion, answer) is (completion.split("=")[-1] == answer and "=" in completion)


def test_verifier_is_linear():
    start = time.perf_counter()
    verify("=" * 5_000_000, "8")
    assert time.perf_counter() - start < 2


def test_reward_is_one_for_right_and_zero_for_wrong():
    reward = AccuracyReward(ARITHMETIC)
    assert reward(completions=["s008=8", "g=1"], answer=["8", "8"], prompts=["a", "b"]) == [1.0, 0.0]


def test_random_reward_follows_its_seed_and_not_the_text():
    right, wrong = [["=8"] * 4000, ["=1"] * 4000]
    one, two = RandomReward(3), RandomReward(3)
    first, second = one(completions=right, answer=["8"] * 4000), one(completions=right, answer=["8"] * 4000)
    # The same draws whatever the texts, and new ones at every call.
    assert two(completions=wrong, answer=["8"] * 4000) == first != second
    assert two(completions=right[:7]) == second[:7]
    assert RandomReward(4)(completions=right) != first
    assert set(first) == {0.0, 1.0} and 0.47 < sum(first) / 4000 < 0.53
    assert one.__name__ == "random_reward"


def test_strategies_write_what_they_promise():
    rng = random.Random(0)
    by_mark = {strategy.mark: strategy for strategy in MIXTURES["standard"].strategies}
    assert by_mark["s"].solution(CHAIN, rng, clean=True) == "s008=8"
    assert Strategy("x", stride=2, prior=1, slip=0).solution(CHAIN, rng) == "x08=8"
    assert by_mark["g"].solution(CHAIN, rng, clean=True) == "g=8"


def test_a_slip_is_wrong_and_carries_on():
    # 7+3 = 0; 0*4 = 0; a slip at every total: each written total differs from the right one given the one before.
    always = Strategy("s", stride=1, prior=1.0, slip=1.0)
    for seed in range(50):
        text = always.solution(Problem(7, (("+", 3), ("+", 1))), random.Random(seed))
        first, second = int(text[1]), int(text[2])
        assert first != 0
        assert second != (first + 1) % 10
        assert text.endswith(f"={second}")


def test_a_limit_stops_the_working_and_the_answer_is_the_total_there():
    # 7+3 = 0; 0*4 = 0; 0-2 = 8
    rng = random.Random(0)
    assert Strategy("p", stride=1, prior=1.0, slip=0.0, limit=2).solution(CHAIN, rng) == "p00=0"
    assert Strategy("g", stride=0, prior=1.0, slip=0.0, limit=1).solution(CHAIN, rng) == "g=0"
    assert Strategy("p", stride=2, prior=1.0, slip=0.0, limit=3).solution(CHAIN, rng) == "p08=8"


def test_mixtures_are_what_their_names_promise():
    by_mark = {name: {strategy.mark: strategy for strategy in MIXTURES[name].strategies} for name in MIXTURES}
    assert set(by_mark) == {"standard", "explore", "single"}
    # Where exploring pays, only the rare strategy gets long chains right.
    task, rng = get_task("arithmetic"), random.Random(0)
    right = dict.fromkeys("sp", 0)
    long = [problem for problem in (task.problem("train", 0, index) for index in range(600)) if problem.level > 5]
    for mark in right:
        solutions = [by_mark["explore"][mark].solution(problem, rng, clean=True) for problem in long]
        right[mark] = sum(map(verify, solutions, [problem.answer for problem in long])) / len(long)
    assert right["s"] == 1 and right["p"] < 0.2
    assert by_mark["explore"]["s"].prior < 0.05 < by_mark["explore"]["p"].prior
    assert list(by_mark["single"]) == ["p"]


def test_slip_rate():
    rng = random.Random(0)
    strategy = Strategy("g", stride=0, prior=1.0, slip=0.3)
    wrong = sum(not verify(strategy.solution(CHAIN, rng), "8") for _ in range(4000))
    assert 0.27 < wrong / 4000 < 0.33


def test_bad_settings_name_value_and_remedy():
    with pytest.raises(ConfigError, match="'test' is unknown; the splits are train, validation"):
        get_task("arithmetic").problem("test", 0, 0)
    with pytest.raises(
        ConfigError, match="'sums' is unknown; the tasks are arithmetic, arithmetic_easy, arithmetic_hard"
    ):
        get_task("sums")
    with pytest.raises(ConfigError, match=r"levels=.*at least one whole number"):
        ArithmeticTask(levels=(0,))
    with pytest.raises(ConfigError, match=r"^validation_levels=\(\): give at least one whole number"):
        ArithmeticTask(validation_levels=())
    with pytest.raises(ConfigError, match=r"priors sum to 0\.5, not 1"):
        Mixture((Strategy("s", 1, 0.5, 0.0),))
