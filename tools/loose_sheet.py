"""`python -m tools.loose_sheet`: draw docs/loose.jpg, a scene's depth picture and confidence from exact to rough."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from sf_model.depth.images import disparity_picture
from sf_model.depth.loosening import loosen
from sf_model.scaffold import Pose, ScaffoldCamera, ScaffoldSolid, compose

TARGET = Path(__file__).resolve().parents[1] / "docs" / "loose.jpg"
LEVELS = (0.0, 0.25, 0.5, 1.0)
SIDE_PX, LABEL_PX = 320, 24
NEAR_M, FAR_M = 3.0, 60.0
# A car, a person and a house as one would block them out.
SCENE = (
    ScaffoldSolid("box", (1.8, 1.5, 4.2), Pose(x_m=-1.0, z_m=9.0, heading_deg=30.0)),
    ScaffoldSolid("cylinder", (0.5, 1.75, 0.5), Pose(x_m=1.2, z_m=5.0)),
    ScaffoldSolid("box", (6.0, 5.0, 6.0), Pose(x_m=5.0, z_m=18.0, heading_deg=-20.0)),
)


def main() -> None:
    depth = compose(SCENE, ScaffoldCamera.level(1.6, 8.0, 45.0), SIDE_PX, SIDE_PX).depth
    sheet = Image.new("RGB", (len(LEVELS) * SIDE_PX, 2 * SIDE_PX + LABEL_PX), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, level in enumerate(LEVELS):
        loose = loosen(depth, level)
        for row, picture in enumerate((disparity_picture(loose.depth, NEAR_M, FAR_M)[0], loose.depth.confidence[0])):
            grey = (255 * picture).round().to(torch.uint8)
            sheet.paste(Image.fromarray(grey.numpy()), (column * SIDE_PX, LABEL_PX + row * SIDE_PX))
        label = f"looseness {level:g}, end_percent {loose.end_percent:g}"
        draw.text(((column + 0.5) * SIDE_PX, LABEL_PX / 2), label, "black", font, "mm")
    sheet.save(TARGET, quality=85)


if __name__ == "__main__":
    main()
