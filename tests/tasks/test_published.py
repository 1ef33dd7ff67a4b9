"""Published problem sets, read from stand-ins in the format of each; problems of one's own; overlap."""

import re

import pytest

from repro import pins, tasks
from repro.cli import main
from repro.errors import ConfigError, PinError
from repro.runs import RunConfig
from repro.runs.training import train
from repro.tasks import AccuracyReward, PublishedTask, get_task
from repro.tasks.overlap import Overlap, overlap
from repro.tasks.own import read_rows
from repro.tasks.published import INSTRUCTION, sets
from repro.tasks.published.reading import problems
from repro.tasks.task import Decoding
from tests.problem_sets import REPOSITORIES, pinned, places, repository, write
from tests.standins import checkpoint


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """All sets, pinned."""
    with places(tmp_path_factory.mktemp("published")) as root:
        for name, parts in REPOSITORIES.items():
            pinned(f"hub:{name}", repository(root / name, parts))
        yield root


@pytest.fixture
def own(tmp_path):
    with places(tmp_path) as root:
        yield root


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (sets.GSM8K_TRAIN, ("Ann has 0 pens and buys 2.", "2", None)),
        (sets.GSM8K_TEST, ("Ann has 100 pens and buys 2.", "102", None)),
        (sets.MATH_TRAIN, ("What is half of $3$?", r"\frac{3}{2}", 1)),
        (sets.DAPO_MATH_17K, ("Find the remainder when $7^{100}$ is divided by 5.", "1", None)),
        (sets.MATH_500, ("Convert the point $(0,3)$ to polar coordinates.", r"\left( 3, \frac{\pi}{2} \right)", 2)),
        (sets.AIME_2024, ("Jen enters a lottery by picking four numbers.  Find the probability!", "116", None)),
        (sets.AIME_2025, ("Sum?", "070", None)),
        (sets.AMC, ("How many?", "142", None)),
        (sets.OLYMPIAD_BENCH, ("Find all $x$.", "1, -2", None)),
        (sets.MINERVA, ("How far?", "1.5e8", None)),
        (sets.OMNI_MATH, ("Show.", "$n$", 4)),
    ],
    ids=lambda one: getattr(one, "repository", ""),
)
def test_a_set_is_read_in_the_format_of_its_card(one, expected, published):
    assert problems(one)[0] == expected


def test_repeated_problems_count_once_and_unknown_levels_are_none(published):
    assert [problem.answer for problem in problems(sets.DAPO_MATH_17K)] == ["1", "116"]
    assert [problem.level for problem in problems(sets.MATH_TRAIN)] == [1, 5, None]


def test_training_problems_come_round_again_in_another_order_and_others_once(published):
    task = get_task("gsm8k")
    drawn = task.dataset("train", 3, 20)
    assert drawn.column_names == ["prompt", "answer", "level"] and len(drawn) == 20
    epochs = [drawn["answer"][start : start + 7] for start in (0, 7)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(str(n + 2) for n in range(7))
    assert epochs[0] != epochs[1] and set(drawn["answer"][14:]) < set(epochs[0])
    assert task.dataset("train", 3, 20).to_dict() == drawn.to_dict() != task.dataset("train", 4, 20).to_dict()
    assert len(task.dataset("validation", 0, 256)) == 4 and len(set(task.dataset("validation", 0, 3)["prompt"])) == 3
    assert drawn["prompt"][0].endswith(f"pens and buys 2.\n\n{INSTRUCTION}")
    with pytest.raises(ConfigError, match="split='test' is unknown; the splits are train, validation"):
        task.dataset("test", 0, 1)


def test_benchmarks_are_decoded_as_in_the_paper(published):
    task = get_task("dapo_math")
    assert isinstance(task, PublishedTask) and not isinstance(get_task("arithmetic"), PublishedTask)
    sampled = {split for split, decoding in task.decodings.items() if decoding == Decoding(0.6, 32)}
    assert sampled == {"aime_2024", "aime_2025", "amc"}
    assert set(task.decodings) - sampled == {"olympiad_bench", "minerva", "omni_math"}
    assert {task.decodings[split] for split in set(task.decodings) - sampled} == {Decoding(0.0, 1)}


def test_strict_and_lenient_scores_are_logged_beside_the_reward():
    logged = {}
    reward = AccuracyReward(get_task("gsm8k"))
    completions = [r"\boxed{5}", "The answer is 5.", r"\boxed{6}", "no idea"]
    assert reward(completions, ["5"] * 4, log_metric=logged.__setitem__) == [1.0, 0.0, 0.0, 0.0]
    assert logged == {"accuracy/lenient": 0.5, "accuracy/undecided": 0.0}
    assert reward(completions, ["5"] * 4) == [1.0, 0.0, 0.0, 0.0]


def test_the_identity_of_a_run_follows_the_pins(published, own):
    with pytest.raises(PinError, match="dataset 'hub:openai/gsm8k' is not pinned; `python -m repro pin openai/gsm8k`"):
        _ = RunConfig(task="gsm8k").identity
    identities = []
    for answer in ("1", "2"):
        write(own / "gsm8k" / "train.jsonl", [{"question": "?", "answer": f"#### {answer}"}])
        pinned("hub:openai/gsm8k", own / "gsm8k")
        identities.append(RunConfig(task="gsm8k").identity)
    assert len({*identities, RunConfig().identity}) == 3
    assert tasks.identity("arithmetic") == tasks.identity("gym:anything") == ""


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "1+1?", "answer": "2"}], "openai/gsm8k, row 0 of split 'train': there is no answer in '2'; pin"),
        ([{"question": "1+1?", "answer": 2}], "row 0 of split 'train': this is no answer as the set writes it: 2; pin"),
        ([{"problem": "1+1?", "answer": "#### 2"}], "has no column 'question', its columns are problem, answer; pin"),
    ],
)
def test_a_set_that_is_not_what_it_should_be_is_one_clear_error(rows, message, own):
    parts = [("main", split, f"main/{split}.jsonl", rows) for split in ("train", "test")]
    pinned("hub:openai/gsm8k", repository(own / "gsm8k", parts))
    with pytest.raises(ConfigError, match=re.escape(message)):
        get_task("gsm8k").dataset("train", 0, 1)


def test_a_file_that_came_after_the_pin_is_refused(own):
    rows = [{"question": "1+1?", "answer": "#### 2"}]
    folder = repository(own / "gsm8k", [("main", "train", "main/train.jsonl", rows)])
    pinned("hub:openai/gsm8k", folder)
    write(folder / "main" / "more.jsonl", rows)
    with pytest.raises(
        ConfigError, match="more.jsonl is not among the files that 'hub:openai/gsm8k' is pinned to; rem"
    ):
        get_task("gsm8k").dataset("train", 0, 1)


def test_a_config_that_is_not_there_is_one_clear_error(own):
    pinned("hub:openai/gsm8k", repository(own / "gsm8k", [("other", "train", "train.jsonl", [{"question": "?"}])]))
    with pytest.raises(ConfigError, match=re.escape("openai/gsm8k (main, train) cannot be read: ")):
        get_task("gsm8k").dataset("train", 0, 1)


ROWS = [{"prompt": f"{n} + 1? Use \\boxed{{}}.", "answer": str(n + 1), "level": n % 3} for n in range(60)]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_file_of_ones_own_is_split_by_a_hash(suffix, own):
    write(own / f"sums.{suffix}", ROWS)
    _, name, _, _ = pins.pin(str(own / f"sums.{suffix}"))
    task = get_task(name)
    train, validation = (set(task.questions(split)) for split in ("train", "validation"))
    assert not train & validation and len(train | validation) == 60 and 1 <= len(validation) <= 15
    drawn = task.dataset("validation", 0, 256)
    assert set(drawn["prompt"]) == validation and set(drawn["level"]) <= {0, 1, 2}
    assert task.verify(rf"\boxed{{{drawn['answer'][0]}}}", drawn["answer"][0])


def test_a_folder_of_ones_own_is_split_by_the_names_of_its_files(own):
    write(own / "mine" / "train.jsonl", ROWS[:5])
    write(own / "mine" / "test.parquet", [{"prompt": "2 + 2?", "answer": "4"}])
    pins.pin(str(own / "mine"))
    task = get_task("local:mine")
    assert list(task.questions("validation")) == ["2 + 2?"] and len(task.questions("train")) == 5
    write(own / "mine" / "more.jsonl", ROWS[5:])
    pins.pin(str(own / "mine"))
    with pytest.raises(ConfigError, match="more.jsonl: the name does not say which split it is; let it start with"):
        task.questions("train")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"prompt": "?", "answer": "1"}\n{"prompt": "?"}', r"row 2: answer is missing"),
        ('{"prompt": "?", "answer": 1}', r"row 1: answer=1 \(int\) is not allowed; it must be a valid string"),
        (
            '{"prompt": "", "answer": "1"}',
            r"row 1: prompt='' \(str\) is not allowed; it must have at least 1 character",
        ),
        ('{"prompt": "?", "answer": "1", "id": 3}', r"row 1: 'id' is unknown; known are prompt, answer, level"),
        ('{"prompt": "?", "answer": "1", "level": "hard"}', r"row 1: level='hard' \(str\) is not allowed; it must be"),
        ('{"prompt": "?"\n', r"row 1: not a JSON object in UTF-8 \(.*\); write one on each line"),
        ('["?", "1"]', r"row 1: .*is not allowed; it must be a valid dictionary"),
    ],
)
def test_a_wrong_row_is_named(lines, message, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"{path.name}, {message}"):
        list(read_rows(path))


def test_what_is_no_parquet_file_is_named(tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR0" * 10)
    with pytest.raises(ConfigError, match=r"rows.parquet: not a Parquet file \(.*\); write it again"):
        list(read_rows(tmp_path / "rows.parquet"))


def test_overlap_by_hand():
    train = ["One two THREE, four!", "a b c d e f", "x"]
    evaluation = ["one two three four", "zero b c d e nine", "b c", "c b", "other"]
    # 4 words in a row: the first whole, b c d e of the second; the third is shorter and stands whole in a b c d e f.
    assert overlap(train, evaluation, words=4) == Overlap(5, same=(0,), similar=(0, 1, 2))
    assert overlap(train, evaluation, words=5) == Overlap(5, same=(0,), similar=(0, 2))
    assert overlap([], evaluation) == Overlap(5, (), ())


def test_overlap_on_the_command_line(published, capsys):
    assert main(["overlap", "dapo_math"]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:]}
    assert rows["aime_2024"] == ["1", "1", "1", "0"] and rows["validation"] == ["5", "0", "0"]
    assert main(["overlap", "arithmetic"]) == 2
    assert "makes its problems" in capsys.readouterr().err


def test_a_run_on_published_problems_has_benchmarks_and_lenient_scores(published, tmp_path, monkeypatch):
    pins.pin(str(checkpoint(tmp_path / "tiny", "qwen2")))
    config = RunConfig(
        base="local:tiny",
        task="dapo_math",
        max_steps=1,
        steps_per_generation=1,
        prompts_per_rollout=2,
        num_generations=2,
        max_completion_length=4,
        eval_prompts=2,
        eval_samples=2,
        eval_samples_last=2,
    )
    trained = train(config)
    assert trained.metrics["accuracy/lenient"].tolist() == [0.0]
    for split in ("", "aime_2024/", "minerva/"):
        assert {f"{split}accuracy/mean", f"{split}accuracy/lenient"} <= set(trained.evaluations)
    assert trained.evaluations["aime_2024/k"].tolist() == [2, 2] and trained.evaluations["minerva/k"].tolist() == [1, 1]
