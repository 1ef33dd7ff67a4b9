"""Stands in for repro.book.build in a copy of the repository: a page that lists the notebooks."""

from repro.paths import build_dir


def build(profile):
    folder = build_dir() / profile
    names = sorted(path.name for path in (folder / "notebooks").iterdir())
    page = folder / "site" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"<p>{names}</p>\n")
    return page
