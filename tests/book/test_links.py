"""Links to the repository and to Colab, from a git remote."""

import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml

from repro import paths
from repro.book import links
from repro.book.build import render

COLAB = "https://colab.research.google.com/github/one/study.git-2/blob/gh-pages/notebooks/01_collapse.ipynb"


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/one/study.git-2",
        "https://github.com/one/study.git-2.git",
        "https://github.com/one/study.git-2/",
        "https://user:secret@github.com/one/study.git-2.git",
        "git@github.com:one/study.git-2.git",
        "ssh://git@github.com/one/study.git-2.git",
    ],
)
def test_a_remote_gives_the_address_of_its_repository(remote):
    assert links.repository(remote) == "https://github.com/one/study.git-2"


@pytest.mark.parametrize(
    "remote",
    [
        *(None, "", "/srv/git/study.git", "../study", "file:///srv/git/study.git", "git@example.org:one/study.git"),
        *("https://example.org/github.com/one/study", "https://github.com/one", "https://github.com.example.org/one/a"),
        *("https://github.com/one/study/extra", "https://example.org@evil/github.com/one/study"),
    ],
)
def test_a_remote_elsewhere_gives_no_links(remote):
    assert links.repository(remote) is None
    assert links.settings(remote) == {}


@pytest.mark.parametrize(
    ("remote", "requirement"),
    [
        (None, "{checkout}"),
        ("https://example.org/a/b.git", "git+https://example.org/a/b.git"),
        ("https://user:secret@example.org/a/b.git", "git+https://example.org/a/b.git"),
        ("git@example.org:a/b.git", "git+ssh://git@example.org/a/b.git"),
        ("git@github.com:a/b.git", "git+https://github.com/a/b"),
        ("https://user:secret@github.com/a/b.git", "git+https://github.com/a/b"),
    ],
)
def test_pip_installs_the_remote_or_else_the_checkout(tmp_path, monkeypatch, remote, requirement):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    if remote:
        subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", remote], check=True)
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    assert links.remote() == remote
    assert links.requirement(remote) == requirement.format(checkout=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("remote", ["git@github.com:one/study.git-2.git", None])
def test_pages_of_notebooks_link_to_colab_where_there_is_a_remote(tmp_path: Path, remote):
    source = tmp_path / "book-src"
    (source / "notebooks").mkdir(parents=True)
    pages = paths.root() / "book"
    config = yaml.safe_load((pages / "_config.yml").read_text(encoding="utf-8"))
    for key, values in links.settings(remote).items():
        config[key] |= values
    (source / "_config.yml").write_text(yaml.safe_dump(config))
    (source / "references.bib").touch()
    (source / "_extra").mkdir()
    (source / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters: [{file: notebooks/01_collapse}]\n")
    (source / "index.md").write_text("# Title\n")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# Page", id="a")],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, source / "notebooks" / "01_collapse.ipynb")
    site = render(source, tmp_path / "site").parent
    page = (site / "notebooks" / "01_collapse.html").read_text(encoding="utf-8")
    index = (site / "index.html").read_text(encoding="utf-8")
    assert (COLAB in page) == ('href="https://github.com/one/study.git-2"' in index) == (remote is not None)
    assert "colab" not in index
    assert ("colab" in page) == (remote is not None)
