"""What notebooks depend on. The workflow's tests edit code and records; the browser's hold arms to the runs read."""

from repro.book import needs


def test_a_script_imports_modules_and_not_the_packages_around_them(tmp_path):
    script = tmp_path / "one.py"
    script.write_text(
        "from repro import claims\nfrom repro.book.figures import law as figures\nfrom repro.runs import load\n"
    )
    assert needs.imported(script) == ["repro.book.figures.law", "repro.claims", "repro.runs"]


def test_content_is_the_syntax_tree_and_the_data_beside_a_package(tmp_path):
    def content(code, data):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        (folder / "data").mkdir(parents=True)
        (folder / "__init__.py").write_text(code)
        (folder / "data" / "curve.csv").write_text(data)
        return needs.content([], folder / "__init__.py")

    first = content("x = 1\n", "1")
    assert content("# A comment.\nx = 1  # Another.\n", "1") == first
    assert len({first, content("x = 2\n", "1"), content("x = 1\n", "2"), needs.content([], "x = 1")}) == 4


def test_training_is_left_to_the_records():
    modules = needs._graph().modules
    assert "repro.runs.record" in modules and needs.TRAINING not in modules
    assert "repro.trainer.trainer" not in needs._graph().find_upstream_modules("repro.book.figures.law")
