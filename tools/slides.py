"""Slides from executed notebooks, as HTML for a browser.

    python tools/slides.py FOLDER NOTEBOOK ...

Where a cell does not say what it is on a slide (metadata `slideshow`), a heading begins a slide, a
figure has one of its own below it, and parameters and training logs are left out.
"""

import html
import pathlib
import sys

import nbformat
from nbconvert import SlidesExporter

WHOLE_WORDS = "<style>.jp-OutputArea-output pre { word-break: normal !important; }</style></head>"
NO_TEXT = 'alt="No description has been provided for this image"'


def place(cell):
    """What a cell is on the slides: 'slide', 'subslide', 'skip' or '-' (goes on)."""
    if cell.cell_type == "markdown":
        return "slide" if cell.source.startswith("#") else "-"
    outputs = cell.get("outputs", [])
    if "parameters" in cell.metadata.get("tags", []) or len(outputs) > 3:
        return "skip"
    return "subslide" if any("image/png" in o.get("data", {}) for o in outputs) else "-"


def described(page, cells):
    """The page with the figures' own alternative texts, which nbconvert leaves out."""
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        text = output.get("metadata", {}).get("image/png", {}).get("alt")
        if text:
            page = page.replace(NO_TEXT, f'alt="{html.escape(text)}"', 1)
    return page


def slides(path, folder):
    """Write a notebook's slides into a folder; returns their path."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata.setdefault("slideshow", {"slide_type": place(cell)})
    size = {"reveal_width": "1280", "reveal_height": "720"}  # a projector's; code fits it
    exporter = SlidesExporter(reveal_theme="simple", reveal_scroll=True, **size)
    page, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem}})
    shown = [cell for cell in notebook.cells if cell.metadata.slideshow.slide_type != "skip"]
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{path.stem}.slides.html"
    out.write_text(described(page, shown).replace("</head>", WHOLE_WORDS, 1), encoding="utf-8")
    return out


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    for name in sys.argv[2:]:
        print(slides(pathlib.Path(name), pathlib.Path(sys.argv[1])))
