"""The book as one PDF: all of its pages in one, printed by a headless Chromium."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from repro import paths
from repro.book.build import BookError, jupyter_book

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Milliseconds of the page's own time in which fonts and exhibits load.
PATIENCE = 20_000


def pdf(profile: str) -> Path:
    """Print the book of a profile, whose site has been built.

    Returns:
        `build/<profile>/book.pdf`.

    Raises:
        BookError: the book has not been built, there is no Chromium, or it prints nothing.
    """
    folder = paths.build_dir() / profile
    source, target = folder / "book-src", folder / "book.pdf"
    if not (source / "_toc.yml").is_file():
        raise BookError(f"{source} is missing; make it with `make book PROFILE={profile}`")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise BookError(f"none of {', '.join(BROWSERS)} is installed, which prints the book; install one")
    with tempfile.TemporaryDirectory(dir=folder) as output:
        page = jupyter_book(source, Path(output) / "out", "singlehtml") / "index.html"
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
        command += [f"--virtual-time-budget={PATIENCE}", f"--print-to-pdf={target}", page.as_uri()]
        target.unlink(missing_ok=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not target.is_file():
        raise BookError(f"{browser} printed nothing: {done.stderr.strip()[-300:]}")
    return target
