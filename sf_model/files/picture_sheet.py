"""Pictures side by side in one PNG."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

GUTTER_PX = 2


def write_png(columns: list[torch.Tensor], path: Path, scale: int = 1) -> None:
    """Write columns of pictures, (B, 3, H, W) in [0, 1] and all of one size, enlarged `scale` times."""
    gutters = (GUTTER_PX,) * 4
    padded = [F.pad(column.float().cpu(), gutters, value=1.0) for column in columns]
    rows = [torch.cat([column[index] for column in padded], dim=2) for index in range(len(padded[0]))]
    pixels = (torch.cat(rows, dim=1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(path)
