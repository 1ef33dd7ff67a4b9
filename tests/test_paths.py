"""Where things are, in a checkout and outside of one."""

from pathlib import Path

import pytest

from repro import paths


def test_checkout_is_this_repository():
    root = Path(__file__).resolve().parents[1]
    assert paths.root() == paths.checkout() == root
    assert paths.configs_dir() == root / "configs" and (paths.configs_dir() / "profiles" / "smoke.yaml").is_file()
    assert paths.bases_dir() == root / "bases" and paths.results_dir() == root / "results"


def test_build_dir_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("REPRO_BUILD", raising=False)
    assert paths.build_dir() == paths.root() / "build"
    assert paths.runs_dir() == paths.root() / "build" / "runs"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REPRO_BUILD", "elsewhere")
    assert paths.build_dir() == tmp_path / "elsewhere"


@pytest.mark.parametrize("content", [None, "", "[project]\nname = 'other'\n", "[project]\n", "not toml ["])
def test_a_folder_without_this_projects_file_is_no_checkout(monkeypatch, tmp_path, content):
    module = tmp_path / "lib" / "repro" / "paths.py"
    module.parent.mkdir(parents=True)
    if content is not None:
        (tmp_path / "pyproject.toml").write_text(content)
    monkeypatch.setattr(paths, "__file__", str(module))
    monkeypatch.setattr(paths, "checkout", paths.checkout.__wrapped__)
    monkeypatch.delenv("REPRO_BUILD", raising=False)
    monkeypatch.chdir(tmp_path)
    assert paths.checkout() is None
    assert paths.configs_dir() == module.parent / "_data" / "configs"
    assert paths.build_dir() == tmp_path / "build"
