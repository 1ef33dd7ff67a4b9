"""Figures as SVG that a page draws in its own theme and font, and the numbers that they draw as a table."""

import html
import io
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from repro.book.looks import HUES, INK

# Text stays text, which is smaller, can be found, and takes the page's font.
SETTINGS = {"svg.hashsalt": "repro", "svg.fonttype": "none"}
_HUES = {on_light: hue for hue, (on_light, _) in HUES.items()}
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_REFERENCE = re.compile(r'(\bid="|\bhref="#|url\(#)')
_FAMILY = re.compile(r"font-family: [^;\"]*;? ?")
_HEAD = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", re.DOTALL)
# A tenth of a point is as fine as a screen. What is written keeps its digits, and so do factors, by which letters that
# are drawn as paths get their size.
_FINER = re.compile(r"(>[^<]+<|scale\([^)]*\))|(\d\.\d)\d+")
# Pixels from which a drawing shrunk to a phone could not be read.
WIDE = 600
_LAYOUT = re.compile(r"\s*\n\s*")
# A point of a path, and the lines that go on from it.
_POLYLINE = re.compile(r"(-?[\d.]+) (-?[\d.]+)\n((?:L -?[\d.]+ -?[\d.]+\n){2,})")
_ZERO = re.compile(r"(?<!\d)0(?=\.)")
# Markers of one style, one after the other.
_MARKERS = re.compile(r'<use [^>]*( style="[^"]*")/>\n(?:<use [^>]*\1/>\n)+')
_GREY = re.compile(r"var\(--ink-(\d+)\)")
_OPENING = re.compile(r"<svg[^>]*>")
_VIEW = re.compile(r'viewBox="([^"]+)"')


def svg(figure: Figure) -> str:
    """A Matplotlib figure as SVG; the same figure gives the same bytes (no date, no random ids)."""
    drawing = io.StringIO()
    with mpl.rc_context(SETTINGS):
        figure.savefig(drawing, format="svg", metadata={"Date": None})
    return drawing.getvalue()


def inline(drawing: str, alt: str, name: str) -> str:
    """An SVG to stand in a page: in the page's colours and font, with ids of its own and a description.

    Args:
        drawing: what `svg` gives, or another SVG of Matplotlib's.
        alt: the description, for readers who do not see it.
        name: what its ids begin with, unique in the page.
    """
    view = _VIEW.search(drawing)
    if view is None:
        raise ValueError(f"{name}: the drawing has no viewBox; draw it with Matplotlib")
    body = _HEAD.sub("", drawing).replace("xlink:href", "href")
    body = _REFERENCE.sub(rf"\g<1>{name}-", body)
    body = _COLOUR.sub(lambda found: _themed(found.group()), body)
    body = _FINER.sub(lambda found: found[1] or found[2], _FAMILY.sub("", body))
    body = _POLYLINE.sub(_by_steps, _LAYOUT.sub("\n", body))
    body = _MARKERS.sub(_in_one_style, body)
    # A grey is written out once a drawing.
    greys = sorted(set(map(int, _GREY.findall(body))))
    mixed = "".join(
        f"; --ink-{share}: color-mix(in srgb, var(--drawing-ink) {share}%, var(--drawing-paper))" for share in greys
    )
    width = float(view[1].split()[2]) * 4 / 3
    kind = "drawing wide" if width > WIDE else "drawing"
    opening = (
        f'<svg class="{kind}" role="img" aria-label="{html.escape(alt)}" viewBox="{view[1]}" '
        f'style="max-width: {1.25 * width:.0f}px; font-family: var(--drawing-font){mixed}" xmlns="http://www.w3.org/2000/svg">'
    )
    return _OPENING.sub(lambda _: opening, body, count=1).strip()


def _by_steps(found: re.Match[str]) -> str:
    """A polyline by its steps from point to point, which are shorter to write and add up to the same points."""
    points = np.array([found[1], found[2], *found[3].replace("L", "").split()], float).reshape(-1, 2)
    steps = " ".join(f"{step:g}" for step in np.diff(np.rint(10 * points), axis=0).ravel() / 10)
    # SVG needs no zero before a point, and no space before a sign.
    return f"{found[1]} {found[2]}l{_ZERO.sub('', steps).replace(' -', '-')}\n"


def _in_one_style(found: re.Match[str]) -> str:
    """Markers in a group that has their style, which they inherit."""
    return f"<g{found[1]}>\n{found[0].replace(found[1], '')}</g>\n"


def _themed(colour: str) -> str:
    """A colour in the page's theme: hues by name, greys as ink thinned on the paper, others as they are."""
    if colour in _HUES:
        return f"var(--hue-{_HUES[colour]})"
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    if colour != INK and not red == green == blue:
        return colour
    share = round(100 * (1 - red / 255))
    return f"var(--ink-{share})"


def numbers(figure: Figure) -> pd.DataFrame:
    """What a figure draws: a row per point, with its panel, its series and what it is part of.

    Columns `panel` (the title of the axes), `series` (a legend's label or a number, or what is written there), `kind`
    (line, band, bar, interval or text), `x` and `y`; a band or interval has `low` and `high` on the axis that it
    extends along, a bar ends at `x`.
    """
    rows: list[pd.DataFrame] = []
    for place, axes in enumerate(figure.axes):
        panel = axes.get_title(loc="left") or axes.get_title() or axes.get_xlabel() or f"panel {place + 1}"
        for number, artist in enumerate(axes.get_children()):
            part = None if artist is axes.patch else _points(artist)
            if part is None or part.empty:
                continue
            label = str(artist.get_label())
            series = f"unnamed {number}" if label.startswith("_child") or not label else label.lstrip("_")
            rows.append(part.assign(panel=panel.replace("\n", " "), series=series.replace("\n", " ")))
        for written in axes.texts:
            x, y = written.get_position()
            part = pd.DataFrame({"kind": ["text"], "x": [x], "y": [y], "panel": panel, "series": written.get_text()})
            rows.append(part.replace("\n", " ", regex=True))
    columns = ["panel", "series", "kind", "x", "y", "low", "high"]
    if not rows:
        return pd.DataFrame(columns=columns)
    return pd.concat(rows, ignore_index=True).reindex(columns=columns)


def _points(artist: object) -> pd.DataFrame | None:
    """The points of one artist; None for what carries no numbers."""
    if isinstance(artist, mpl.lines.Line2D):
        x, y = (np.atleast_1d(np.asarray(values, dtype=float)) for values in artist.get_data(orig=False))
        return pd.DataFrame({"kind": "line", "x": x, "y": y})
    if isinstance(artist, LineCollection):
        ends = np.array([[*segment[0], *segment[-1]] for segment in artist.get_segments() if len(segment)])
        return _stretches(ends) if len(ends) else None
    if isinstance(artist, PolyCollection):
        outlines = [path.vertices for path in artist.get_paths() if len(path.vertices)]
        if not outlines:
            return None
        edge = pd.DataFrame(np.concatenate(outlines), columns=["x", "y"])
        band = edge.groupby("x", as_index=False)["y"].agg(low="min", high="max")
        return band.assign(kind="band")
    if isinstance(artist, Rectangle):
        x, y = artist.get_xy()
        return pd.DataFrame({"kind": ["bar"], "x": [x + artist.get_width()], "y": [y + artist.get_height() / 2]})
    return None


def _stretches(ends: np.ndarray) -> pd.DataFrame:
    """Intervals from segments `[n, (x, y, x, y)]`, along the axis on which each has its length."""
    across = ends[:, 0] != ends[:, 2]
    low = np.where(across, ends[:, 0], ends[:, 1])
    high = np.where(across, ends[:, 2], ends[:, 3])
    return pd.DataFrame(
        {
            "kind": "interval",
            "x": np.where(across, np.nan, ends[:, 0]),
            "y": np.where(across, ends[:, 1], np.nan),
            "low": low,
            "high": high,
        }
    )
