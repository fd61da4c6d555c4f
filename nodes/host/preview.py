"""What a node that makes or passes depth shows: the picture for everyone, and the metres for the pack's viewer.

The viewer (web/spatialfusion.js) attaches itself to every node whose results carry UI_KEY. It reads the arrays from the
host's own /view route: no route of ours, so that it works wherever the host's previews do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import folder_paths
import numpy as np
import torch
from comfy_api.v0_0_2 import io, ui

from ...sf_model.depth.colours import depth_picture
from ...sf_model.depth.metric_depth import MetricDepth

UI_KEY = "spatialfusion_depth"


def depth_preview_ui(
    depth: MetricDepth, cls: type[io.ComfyNode], picture: torch.Tensor | None = None
) -> dict[str, list[Any]]:
    """For `io.NodeOutput(..., ui=depth_preview_ui(depth, cls))`: the pictures as "images", and `viewer_ui`.

    cls: the node, as `execute` gets it. picture: (B, H, W, 3), the depth's colours where they are made already.
    """
    if picture is None:
        picture = depth_picture(depth.to("cpu")).movedim(1, -1)
    return {"images": ui.PreviewImage(picture, cls=cls).as_dict()["images"], **viewer_ui(depth)}


def viewer_ui(depth: MetricDepth) -> dict[str, list[Any]]:
    """What the viewer reads, under UI_KEY. Files go to the host's temp folder.

    For each image of the batch the host's {filename, subfolder, type} of a .npy, with its width and height in pixels
    and fov_y_deg. The array is little-endian float32 (1 or 2, H, W): metres, inf where there is no surface; and the
    confidence, left out where it is 1 everywhere.
    """
    depth = depth.to("cpu")
    prefix = f"spatialfusion_{uuid4().hex[:8]}"
    return {UI_KEY: [_save_array(depth, index, f"{prefix}_{index + 1:05}_.npy") for index in range(len(depth.depth))]}


def _save_array(depth: MetricDepth, index: int, name: str) -> dict[str, Any]:
    """Write one image's metres; returns what the viewer needs to know of them."""
    channels = [depth.depth[index]]
    if (depth.confidence[index] < 1).any():
        channels.append(depth.confidence[index])
    folder = Path(folder_paths.get_temp_directory())
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / name, torch.stack(channels).numpy().astype("<f4"))
    _, height, width = depth.depth.shape
    saved = ui.SavedResult(name, "", io.FolderType.temp)
    return {**saved, "width": width, "height": height, "fov_y_deg": float(depth.fov_y_deg[index])}
