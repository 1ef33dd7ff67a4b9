"""Answers in mathematics: found, compared, bounded; a table of what hostile completions hold."""

import os
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.errors import ConfigError
from repro.tasks.grading import Verdict, compare, grade
from repro.tasks.grading.answers import ANSWER_LONGEST, boxed, last_answer, plain
from repro.tasks.grading.limits import refusal
from repro.tasks.grading.referee import UNDECIDED, Referee, referee


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1}, no, \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed { 7 }", "7"),
        (r"\fbox{7}", "7"),
        (r"$\boxed 5$", "5"),
        (r"\boxed{3} and then \boxed{4", "3"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\boxed{}", ""),
        ("42", None),
        (r"\boxed{" + "1" * (ANSWER_LONGEST + 1) + "}", None),
    ],
)
def test_the_last_closed_box_is_the_answer(text, found):
    assert boxed(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"Answer: 3, that is \boxed{4}", "4"),
        ("2 + 3 = 5\n#### 1,234", "1,234"),
        ("The answer is 42 apples, of 50.", "50"),
        ("**Answer:** 7/8.", "7/8"),
        ("the answer is $x + 1$ for all 3", "3"),
        ("the answer is $x + 1$ for all x", "x + 1"),
        ("answer: x+1", "x+1"),
        ("Therefore 12 - 5 = 7 apples", "7"),
        (r"So \(\frac{1}{2}\) it is", r"\frac{1}{2}"),
        (r"Finally $$\sqrt{2}$$", r"\sqrt{2}"),
        ("It costs $18.50 in all", "18.50"),
        ("temperature is -3", "-3"),
        ("x2y", None),
        ("", None),
    ],
)
def test_the_lenient_answer_is_what_a_completion_ends_with(text, found):
    assert last_answer(text) == found


@pytest.mark.parametrize(
    ("answer", "gold", "right", "by"),
    [
        ("42", "42", True, "text"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}", True, "text"),
        (r"\$1{,}234", "1234", True, "text"),
        (r"\text{Monday}", "Monday", True, "text"),
        ("٤٢", "42", False, "limits"),  # Arabic digits are text, and int() would read them.
        ("012", "12", True, "number"),
        ("12.0", "12", True, "number"),
        ("13", "12", False, "number"),
        (r"2.75 \times 10^{11}", "2.75e11", True, "text"),
        ("275000000000", "2.75e+11", True, "algebra"),
        ("1.5e-8", r"1.5\cdot 10^{-8}", True, "algebra"),
        ("1.5e-8", r"1.5\cdot 10^{-7}", False, "algebra"),
        ("9" * 41, "9" * 42, False, "limits"),
        ("9" * 41, "9" * 41, True, "text"),
        ("1/2", "0.5", True, "number"),
        ("0.3333333", "1/3", True, "algebra"),
        ("0.33", "1/3", False, "algebra"),
        (r"\frac12", "0.5", True, "algebra"),
        ("(x+1)^2", "x^2+2x+1", True, "algebra"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", True, "algebra"),
        (r"\begin{pmatrix}1&2\\3&5\end{pmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", False, "algebra"),
        (r"2\sqrt{3}", r"\sqrt{12}", True, "algebra"),
        ("x=5", "5", True, "algebra"),
        ("[1,2)", "(1,2]", False, "algebra"),
        ("3,1", r"\{1,3\}", True, "algebra"),
        ("", "", False, "text"),
    ],
)
def test_equal_answers(answer, gold, right, by):
    assert compare(answer, gold) == Verdict(right, by)


def test_strict_asks_for_the_form_and_lenient_for_the_answer():
    assert grade(r"\boxed{0.50}", "1/2") == (Verdict(True, "number"), Verdict(True, "number"))
    assert grade("The answer is 0.50.", "1/2") == (None, Verdict(True, "number"))
    # A wrong box is not saved by a right number outside.
    assert grade(r"1/2, I mean \boxed{3}", "1/2") == (Verdict(False, "algebra"), Verdict(False, "algebra"))
    assert grade("I do not know", "1/2") == (None, None)


TOUCH = "__import__('pathlib').Path('touched').touch()"
BOMBS = [
    "9^{9^{9}}",
    "9^9^9",
    "x^{a+9^{9^9}}",
    "(9^{9999})^{9999}",
    r"9^{\frac{99999999}{1}}",
    r"9^\frac{99999999}{1}",
    "9^{1e9}",
    "1e999999999",
    "2^{9 9 9 9 9 9 9}",
    "2^{1 0 0 0 0 0 0 0 0}",
    r"\sqrt[9999]{99} x",
    "2^{9,999,999}",
    "2^{20!}",
    r"2^{\lfloor 10^{99} \rfloor}",
    "2^{(99)^{99}}",
    "2^{99^{9999}}",
    "2^{" + "9" * 40 + "^{9999}}",
    "(x+y+z)^{500}",
    r"\begin{pmatrix}x&1\\1&x\end{pmatrix}^{99}",
    "99999999!",
    "((5!)!)!",
    "9!!!!!!!!",
    r"\binom{99999999}{5555555}",
    r"\binom{x}{9999}",
    r"\sqrt[99999999]{2}",
    r"\sum_{i=1}^{99999999} \frac{1}{i}",
    r"\int_0^1 \int_0^1 e^{x^2 y^2}",
    r"\lim_{x \to 0} \frac{\sin x}{x}",
    r"\prod_{i=1}^{99999} i",
    r"e^{e^{e^{e^{10}}}}",
    r"x^{77}+y^{77}=z^{77}",
    r"\sqrt{" * 200 + "2" + "}" * 200,
    "(" * 5000 + "1" + ")" * 5000,
    "+".join(["x"] * 3000),
    r"\frac{1}{" * 300 + "2" + "}" * 300,
    "\\sin(" * 50 + "x" + ")" * 50,
    r"\begin{pmatrix}" + "&".join("1" * 100) + r"\end{pmatrix}",
]
SMALL = [  # Within the limits, and still odd.
    r"\lfloor \pi^{9999} \rfloor",
    "x^{20000}-1",
    "999!",
    r"\sin(10^{999})",
    r"\frac{1}{0}",
    r"\frac{0}{0}",
    r"\infty-\infty",
    r"\sqrt{\sqrt{\sqrt{-1}}}",
    "i^{i}",
    r"\frac",
    "{{{",
    "}}}",
    "x_{",
    "|||",
    TOUCH,
    "os.system('touch touched')",
    r"\text{" + TOUCH + "}",
]
STRANGE = [
    "1\x002",
    "\x00" * 1000,
    "\u202e42\u202c",
    "\u05d0\u05d1\u05d2 42 \u200f",
    "4\u0662",
    "\U0001f600" * 500,
    "\ud800",
    "e\u0301" * 1000,
    "1" * 10**6,
    "1," * 500_000,
    "9" * 10**6 + "." + "9" * 10**6,
    r"\boxed{" * 50_000,
    r"\boxed{" * 50_000 + "1" + "}" * 50_000,
    "{" * 10**6,
    "$" * 10**6,
    r"\(" * 300_000,
    "\\" * 10**6,
    "answer is " * 10**5,
    "####" * 10**5,
    " " * 10**6,
    "\n" * 10**6,
]
HOSTILE = [*BOMBS, *SMALL, *STRANGE]
"""Answers, or whole completions where they are strange."""


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:40]))
@pytest.mark.parametrize("form", ["boxed", "bare"])
def test_hostile_completions_are_bounded_and_wrong(text, form, tmp_path, monkeypatch):
    """Wrong, in bounded time and memory, and nothing of it is run. Time is this machine's, tenfold for a busy one."""
    monkeypatch.chdir(tmp_path)
    compare.cache_clear()
    completion = rf"The answer is \boxed{{{text}}}." if form == "boxed" else f"The answer is {text}"
    tracemalloc.start()
    start = time.perf_counter()
    found = grade(completion, r"\frac{7}{3}")
    seconds = time.perf_counter() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for verdict in found:
        assert verdict is None or (not verdict.right and verdict.by != UNDECIDED)
    assert seconds < 10 and peak < 30 * len(text) + 2**22
    assert not any(tmp_path.iterdir())


@given(st.text(r"\^_{}()[]|!,.=<>&$ 0123459xe-+*/" + "\n\0\u0662", max_size=60))
def test_any_text_has_an_answer_about_its_limits_and_a_plain_form(text):
    """Neither raises, and an answer that is found stands in the text."""
    for one in (text, rf"\frac{{{text}}}{{2}}", rf"2^{{{text}}}", rf"\sqrt[{text}]{{2}}"):
        assert refusal(one) is None or refusal(one)
        assert refusal(plain(one)) is None or refusal(plain(one))
        assert (last_answer(one) or "") in one.replace("$$", "$")


def test_the_bombs_never_reach_computer_algebra():
    assert [text for text in BOMBS if refusal(plain(text)) is None] == []
    assert all(refusal(text) is None for text in ("x^{20000}-1", "999!", r"\sin(10^{999})", "2^{2018}-1"))


@pytest.mark.parametrize(
    "answer", [r"|\infty|", r"|-\infty|", r"\infty", r"\frac{1}{0}", r"\frac{0}{0}", "x", "()", ","]
)
def test_no_answer_is_right_whatever_the_problem(answer):
    """math-verify alone takes the first two for equal to most of these."""
    golds = (r"\sqrt{2}", r"\frac{\pi}{4}", r"2\pi+\sqrt{3}", "1.5", "e^{2}", "7", "x+1", "(1,2)", "3+4i")
    assert [gold for gold in golds if compare(answer, gold).right] == []


def test_unbounded_sets_may_be_equal():
    assert compare(r"(-\infty, 2]", r"x \le 2").right or compare(r"x \le 2", r"(-\infty, 2]").right
    assert compare(r"(-\infty,2]\cup[3,\infty)", r"(-\infty, 2] \cup [3,\infty)").right
    assert compare(r"-\infty", r"-\infty").right and not compare(r"-\infty", r"\infty").right


def test_the_same_bomb_as_the_right_answer_is_compared_as_text():
    bomb = r"\sum_{i=1}^{n} i^2"
    assert compare(bomb, bomb) == Verdict(True, "text")
    assert compare("3", bomb) == Verdict(False, "limits")


def test_a_referee_gives_up_in_time_and_goes_on():
    one = Referee(seconds=1.0)
    start = time.perf_counter()
    one._process = one._start()
    started = time.perf_counter()
    assert one.equal("9^{9^{9}}", "x+7") == UNDECIDED
    assert time.perf_counter() - started < 10
    one.seconds = 60.0
    assert one.equal("1+x", "x+1") is True
    assert started - start < 60
    one._process.kill()
    one._process.wait()
    assert one.equal("1+x", "x+1") == UNDECIDED and one.equal("3", "4") is False
    one.close()


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="limits are read from Linux's /proc")
def test_the_memory_of_the_comparing_process_is_bounded_and_its_hashes_are_fixed():
    one = referee()
    assert one.equal("x", "y") is False
    limits = Path(f"/proc/{one._process.pid}/limits").read_text()
    assert next(line for line in limits.splitlines() if "address space" in line).split()[3] == str(2**30)
    assert b"PYTHONHASHSEED=0" in Path(f"/proc/{one._process.pid}/environ").read_bytes().split(b"\0")


def test_a_missing_library_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install 'math-verify"):
        Referee().equal("x", "y")


def test_grading_loads_neither_torch_nor_algebra_in_the_process_of_the_caller():
    code = (
        "import sys, repro.tasks.grading as g; print(g.compare('1+x', 'x+1').right, "
        "*{'torch', 'sympy', 'math_verify', 'datasets'} & set(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert (answer.returncode, answer.stdout.split()) == (0, ["True"]), answer.stderr
