"""`python -m tools.shape_sheet`: draw docs/shapes.jpg, all named shapes with their names."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from sf_model.scaffold import Pose, ScaffoldCamera, ScaffoldFigure, compose
from sf_model.scaffold.shapes import NamedShape, named_shapes

TARGET = Path(__file__).resolve().parents[1] / "docs" / "shapes.jpg"
COLUMNS, CELL_PX, LABEL_PX = 13, 128, 20
HEADING_DEG, DISTANCE_M = 40.0, 2.6


def cell(shape: NamedShape) -> Image.Image:
    """The shape, scaled to 1 m, from a little to its left."""
    longest = max(shape.size_m)
    size = tuple(side / longest for side in shape.size_m)
    camera = ScaffoldCamera.look_at((0, 0.9, 0), (0, size[1] / 2, -DISTANCE_M), 30)
    figure = ScaffoldFigure(shape.name, size, Pose(z_m=DISTANCE_M, heading_deg=HEADING_DEG))
    picture = compose((figure,), camera, 2 * CELL_PX, 2 * CELL_PX, ground_extent_m=20).picture
    drawn = Image.fromarray((picture.numpy() * 255).round().astype("uint8"))
    return drawn.resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS)


def main() -> None:
    shapes = list(named_shapes().values())
    rows = -(-len(shapes) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL_PX, rows * (CELL_PX + LABEL_PX)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, shape in enumerate(shapes):
        x, y = index % COLUMNS * CELL_PX, index // COLUMNS * (CELL_PX + LABEL_PX)
        sheet.paste(cell(shape), (x, y))
        draw.text((x + CELL_PX / 2, y + CELL_PX + LABEL_PX / 2), shape.name, "black", font, "mm")
    sheet.save(TARGET, quality=82)


if __name__ == "__main__":
    main()
