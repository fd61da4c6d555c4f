"""What a node that makes or passes depth shows: the picture for everyone, and the metres for the pack's viewer.

The viewer (web/spatialfusion.js) attaches itself to every node whose results carry UI_KEY. It reads the arrays from the
host's own /view route: no route of ours, so that it works wherever the host's previews do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy_api.v0_0_2 import io, ui

from ..sf_model.metric_depth import MetricDepth
from ..sf_model.picture import depth_picture
from .geometry import to_metric_depth

UI_KEY = "spatialfusion_depth"


def depth_preview_ui(depth: MetricDepth | dict[str, Any], cls: type[io.ComfyNode]) -> dict[str, list[Any]]:
    """For `io.NodeOutput(..., ui=depth_preview_ui(geometry, cls))`. Files go to the host's temp folder.

    depth: a MetricDepth or either of the host's geometry dicts. cls: the node, as `execute` gets it.
    Returns "images", the ordinary pictures, and UI_KEY: for each image of the batch the host's
    {filename, subfolder, type} of a .npy, with its width and height in pixels and fov_y_deg. The array is
    little-endian float32 (1 or 2, H, W): metres, inf where there is no surface; and the confidence, left out where it
    is 1 everywhere.
    Raises ValueError where a geometry is not in metres.
    """
    if not isinstance(depth, MetricDepth):
        depth = to_metric_depth(depth)
    depth = depth.to("cpu")
    pictures = ui.PreviewImage(depth_picture(depth).movedim(1, -1), cls=cls).as_dict()["images"]
    return {
        "images": pictures,
        UI_KEY: [_save_array(depth, index, picture) for index, picture in enumerate(pictures)],
    }


def _save_array(depth: MetricDepth, index: int, picture: ui.SavedResult) -> dict[str, Any]:
    """Write one image's metres beside its picture; returns what the viewer needs to know of them."""
    channels = [depth.depth[index]]
    if (depth.confidence[index] < 1).any():
        channels.append(depth.confidence[index])
    name = f"{Path(picture.filename).stem}.npy"
    folder = Path(folder_paths.get_temp_directory()) / picture.subfolder
    np.save(folder / name, torch.stack(channels).numpy().astype("<f4"))
    _, height, width = depth.depth.shape
    saved = ui.SavedResult(name, picture.subfolder, io.FolderType.temp)
    return {**saved, "width": width, "height": height, "fov_y_deg": float(depth.fov_y_deg[index])}
