"""What the README shows is what the repository holds."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_is_the_file_that_is_tested():
    code = (ROOT / "examples" / "kl_cov.py").read_text(encoding="utf-8").split('"""', 2)[2].strip()
    assert f"```python\n{code}\n```" in README


def test_every_file_it_names_is_there():
    tree = re.search(r"## What is where\n\n```\n(.*?)```", README, re.DOTALL).group(1)
    names = [line.split()[0] for line in tree.splitlines()]
    links = re.findall(r"\]\(([^):]+)\)", README)
    assert len(names) > 12 and len(links) > 3
    assert [name for name in names + links if not (ROOT / name).exists()] == []


def test_its_commands_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", README)) - {"it"}
    assert {"reproduce", "test"} <= named
    assert named <= targets
