"""A Sphinx extension: SVG drawings stand in the page itself, where they take its colours, its font and its theme."""

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

from repro.book.drawing import inline


class Inlined(SphinxPostTransform):
    """Replaces every image that is an SVG by the drawing; what writes no HTML keeps the image."""

    default_priority = 900
    formats = ("html",)

    def run(self, **_: Any) -> None:
        images = [image for image in self.document.findall(nodes.image) if image["uri"].endswith(".svg")]
        for place, image in enumerate(images):
            drawing = (Path(self.env.srcdir) / image["uri"].lstrip("/")).read_text(encoding="utf-8")
            markup = inline(drawing, image.get("alt", ""), f"drawing-{place}")
            image.replace_self(nodes.raw("", markup, format="html"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the transform."""
    app.add_post_transform(Inlined)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
