"""Tables of shapes and typical sizes for docs/layouts.md."""

from __future__ import annotations

from collections import Counter

from sf_model.scaffold.shapes import named_shapes
from sf_model.scaffold.sizes import size_table

from .blocks import Page
from .figures import markdown_table


def _size(size_m: tuple[float, float, float]) -> str:
    return " x ".join(f"{side:g}" for side in size_m)


def shape_table(_: Page) -> str:
    """Every shape with the size that it has when nothing else is said, and the number of its primitives."""
    rows = [[f"`{shape.name}`", _size(shape.size_m), str(len(shape.primitives))] for shape in named_shapes().values()]
    return markdown_table(["shape", "width x height x length (m)", "primitives"], rows)


def size_rows(_: Page) -> str:
    """The table of typical sizes."""
    rows = [[row.name, ", ".join(row.synonyms), row.shape, _size(row.size_m), row.source] for row in size_table()]
    return markdown_table(["name", "other names", "shape", "width x height x length (m)", "source"], rows)


def size_counts(_: Page) -> str:
    """How many rows and names there are, and how many rows have a source."""
    table = size_table()
    names = sum(1 + len(row.synonyms) for row in table)
    judged = Counter(row.source.startswith("judged") or row.source == "unit size" for row in table)[True]
    return (
        f"{len(table)} sizes under {names} names. {len(table) - judged} rows name a norm, a publication or a product; "
        f"{judged} are judged."
    )
