"""What a node with a depth shows: a picture, and the metres for the pack's viewer.

The viewer (web/spatialfusion.js) attaches itself to every node whose results have UI_KEY. It reads the arrays by the
host's own /view route. So it works wherever the host's previews do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import folder_paths
import numpy as np
import torch
from comfy_api.v0_0_2 import io, ui

from ...sf_model.depth.metric_depth import MetricDepth
from .images import depth_colours

UI_KEY = "spatialfusion_depth"


def depth_preview_ui(
    depth: MetricDepth, cls: type[io.ComfyNode], picture: torch.Tensor | None = None
) -> dict[str, list[Any]]:
    """The `ui` value of a node: the pictures as "images", and `viewer_ui`.

    cls: the node, as `execute` gets it. picture: (B, H, W, 3), the depth as colours, if the node has made it already.
    """
    if picture is None:
        picture = depth_colours(depth.to("cpu"))
    return {"images": ui.PreviewImage(picture, cls=cls).as_dict()["images"], **viewer_ui(depth)}


def viewer_ui(depth: MetricDepth) -> dict[str, list[Any]]:
    """What the viewer reads, under UI_KEY. The files are in the host's temp folder.

    Each image of the batch has the host's {filename, subfolder, type} of a .npy, width and height in pixels, and
    fov_y_deg. The array is little-endian float32 (1 or 2, H, W): metres, inf where there is no surface, and the
    confidence. An image whose confidence is 1 everywhere has no second channel.
    """
    depth = depth.to("cpu")
    prefix = f"spatialfusion_{uuid4().hex[:8]}"
    return {UI_KEY: [_save_array(depth, index, f"{prefix}_{index + 1:05}_.npy") for index in range(len(depth.depth))]}


def _save_array(depth: MetricDepth, index: int, name: str) -> dict[str, Any]:
    """Write the metres of one image. Returns what the viewer needs to read them."""
    channels = [depth.depth[index]]
    if (depth.confidence[index] < 1).any():
        channels.append(depth.confidence[index])
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / name, torch.stack(channels).numpy().astype("<f4"))
    _, height, width = depth.depth.shape
    saved = ui.SavedResult(name, "", io.FolderType.temp)
    return {**saved, "width": width, "height": height, "fov_y_deg": float(depth.fov_y_deg[index])}
