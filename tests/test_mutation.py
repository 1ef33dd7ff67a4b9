"""The mutants fit the code as it stands, and their harness tells a caught one from a survivor."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from repro import paths
from tests.mutants import MUTANTS
from tests.mutation import drifted

ROOT = paths.root()


def test_every_mutant_replaces_one_text_and_names_its_tests():
    assert drifted(MUTANTS, ROOT) == []
    assert len({mutant.what for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_every_mutant_is_other_code_that_can_be_read(mutant):
    text = (ROOT / "src" / "repro" / mutant.file).read_text(encoding="utf-8")
    before, after = (ast.dump(ast.parse(one)) for one in (text, text.replace(mutant.old, mutant.new)))
    assert before != after


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A package of two functions, one of them tested."""
    for name, content in {
        "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['src']\n",
        "src/repro/__init__.py": "",
        "src/repro/sums.py": "def plus(a, b):\n    return a + b\n\n\ndef minus(a, b):\n    return a - b\n",
        "tests/test_sums.py": "from repro.sums import plus\n\n\ndef test_plus():\n    assert plus(2, 1) == 3\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def judged(tree: Path) -> subprocess.CompletedProcess[str]:
    code = f"""if True:
        import sys
        from pathlib import Path
        from tests.mutants import Mutant
        from tests.mutation import judge

        tests = ("tests/test_sums.py",)
        mutants = (
            Mutant("plus turned", "sums.py", "a + b", "a * b", tests),
            Mutant("minus turned", "sums.py", "a - b", "b - a", tests),
        )
        sys.exit(judge(mutants, Path({str(tree)!r})))
    """
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_survivor_is_told_from_a_caught_mutant(tree):
    answer = judged(tree)
    lines = answer.stdout.splitlines()
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert [line.split()[:2] for line in lines[1:3]] == [["1", "caught"], ["2", "SURVIVES"]]
    assert lines[3] == "1 of 2 survive"
    assert "return a + b" in (tree / "src" / "repro" / "sums.py").read_text()


def test_nothing_is_judged_where_the_unbroken_tests_fail_or_a_text_has_gone(tree):
    (tree / "tests" / "test_sums.py").write_text("def test_plus():\n    assert False\n")
    answer = judged(tree)
    assert answer.returncode == 2 and "although nothing is broken" in answer.stdout
    assert "caught" not in answer.stdout
    (tree / "src" / "repro" / "sums.py").write_text("def plus(a, b):\n    return sum((a, b))\n")
    answer = judged(tree)
    assert answer.returncode == 2 and "plus turned: 'a + b' occurs 0 times in sums.py" in answer.stdout
