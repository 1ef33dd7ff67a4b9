"""Tasks of reasoning-gym: with the package where it is installed, and with a stand-in of its interface."""

import importlib.util
import random
import sys
from types import ModuleType, SimpleNamespace

import pytest

from repro.errors import ConfigError
from repro.tasks import AccuracyReward, get_task, gym
from repro.tasks.draws import split_of

REAL = importlib.util.find_spec("reasoning_gym") is not None


class ProceduralDataset:
    """As in reasoning-gym: items by seed and index, and a score that subclasses may replace."""

    def __init__(self, seed: int, size: int):
        self.seed = seed

    def score_answer(self, answer, entry):
        return float(answer == entry["answer"])


class Sums(ProceduralDataset):
    def __getitem__(self, index):
        rng = random.Random(self.seed + index)
        a, b = rng.randrange(50), rng.randrange(50)
        return {"question": f"{a} + {b}?", "answer": str(a + b), "metadata": {}}


class Evaluated(Sums):
    def score_answer(self, answer, entry):
        return float(eval(answer) == entry["answer"])


@pytest.fixture(params=["stand-in", "package"])
def kind(request, monkeypatch):
    """The name of a kind that is compared exactly."""
    gym.exact_kinds.cache_clear()
    if request.param == "package":
        if not REAL:
            pytest.skip("reasoning-gym is not installed")
        yield "leg_counting"
    else:
        known = {"leg_counting": (Sums, None), "countdown": (Evaluated, None)}
        package, factory = ModuleType("reasoning_gym"), ModuleType("reasoning_gym.factory")
        package.create_dataset = lambda name, size, seed: known[name][0](seed, size)
        factory.DATASETS, factory.ProceduralDataset = known, ProceduralDataset
        package.__spec__ = SimpleNamespace()
        monkeypatch.setitem(sys.modules, "reasoning_gym", package)
        monkeypatch.setitem(sys.modules, "reasoning_gym.factory", factory)
        yield "leg_counting"
    gym.exact_kinds.cache_clear()


def test_items_are_a_function_of_split_seed_and_index_and_no_item_is_in_two_splits(kind):
    task = get_task(f"gym:{kind}")
    train, validation = ([task.problem(split, 0, index) for index in range(60)] for split in ("train", "validation"))
    assert task.problem("train", 0, 7) == train[7]
    assert not {one.prompt for one in train} & {one.prompt for one in validation}
    assert {split_of(one.prompt.removesuffix(f"\n\n{gym.INSTRUCTION}")) for one in train} == {"train"}
    # By reasoning-gym's own seeds, seed 1 would be seed 0 shifted by one.
    other = [task.problem("train", 1, index) for index in range(60)]
    assert sum(one == two for one, two in zip(train[1:], other, strict=False)) < 5
    assert task.dataset("train", 0, 3)["prompt"] == [one.prompt for one in train[:3]]


def test_answers_are_compared_exactly(kind):
    task = get_task(f"gym:{kind}")
    answer = task.problem("train", 0, 0).answer
    assert task.verify(f"so <answer> {answer} </answer>.", answer)
    assert not task.verify(f"<answer>{answer}1</answer>", answer) and not task.verify(answer, answer)
    assert task.grade(f"It is\n{answer}\n", answer).lenient_right
    assert not task.grade(f"It is {answer}", answer).lenient_right
    assert not task.verify("<answer>__import__('os').getcwd()</answer>", answer)
    assert AccuracyReward(task)([f"<answer>{answer}</answer>", "<answer>"], [answer] * 2) == [1.0, 0.0]


def test_kinds_that_evaluate_answers_and_unknown_ones_and_splits_are_refused(kind):
    for name in ("countdown", "nothing"):
        with pytest.raises(
            ConfigError, match=f"task 'gym:{name}' is not one .* compared exactly; these are .*leg_count"
        ):
            get_task(f"gym:{name}")
    with pytest.raises(ConfigError, match="split='test' is unknown"):
        get_task(f"gym:{kind}").problem("test", 0, 0)


def test_the_last_closed_tags_hold_the_answer():
    assert gym.tagged("<answer>1</answer> <answer> 2 </answer> <answer>3") == "2"
    assert gym.tagged("<answer><answer>4</answer></answer>") == "4"
    assert gym.tagged("</answer>5<answer>") is None and gym.tagged("<answer>" * 100_000) is None


@pytest.mark.skipif(REAL, reason="reasoning-gym is installed")
def test_a_missing_package_is_named_with_its_command():
    with pytest.raises(ConfigError, match="`pip install reasoning-gym` installs it"):
        get_task("gym:leg_counting")


def test_a_name_without_a_source_is_refused():
    for name in ("elsewhere:sums", ":sums", "gym:"):
        with pytest.raises(ConfigError, match="is from an unknown source; the prefixes are gym:, hub:, local:"):
            get_task(name)
