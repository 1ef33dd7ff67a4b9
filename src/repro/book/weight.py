"""What the built site weighs, and the most that it may: `python -m repro.book.weight build/cpu/site`.

Checked where the study of record is built, and not by every build: a larger study of one's own may weigh more.
"""

import sys
from pathlib import Path

# Bytes: of a page, and of everything but the pages of the notebooks.
PAGE_LIMIT, SITE_LIMIT = 1_500_000, 8_500_000
NAMED = 8


def complaints(site: Path) -> list[str]:
    """A line for every page over its limit, and one for the site with its heaviest files; none where all is well."""
    sizes = {path.relative_to(site).as_posix(): path.stat().st_size for path in site.rglob("*") if path.is_file()}
    pages = {name: size for name, size in sizes.items() if name.endswith(".html") and size > PAGE_LIMIT}
    found = [f"{name} has {size / 1e6:.2f} MB; a page may have {PAGE_LIMIT / 1e6:g}" for name, size in pages.items()]
    counted = {name: size for name, size in sizes.items() if not name.startswith("notebooks/")}
    total = sum(counted.values())
    if total > SITE_LIMIT:
        heaviest = sorted(counted, key=counted.__getitem__, reverse=True)[:NAMED]
        names = ", ".join(f"{name} ({counted[name] / 1e6:.2f})" for name in heaviest)
        found.append(f"the site has {total / 1e6:.2f} MB; it may have {SITE_LIMIT / 1e6:g}. The heaviest: {names}")
    return found


if __name__ == "__main__":
    if not (Path(sys.argv[1]) / "index.html").is_file():
        sys.exit(f"error: {sys.argv[1]} is no built site; make it with `make book`")
    sys.exit("\n".join(f"error: {line}" for line in complaints(Path(sys.argv[1]))) or 0)
