"""What a node with a depth shows: a picture, and the metres for the pack's viewer.

The viewer (web/spatialfusion.js) attaches itself to every node whose results have UI_KEY. It reads the arrays by the
host's own /view route. So it works wherever the host's previews do.

Every node with a depth shows a preview: some images of the batch, and of a large image every n-th pixel. These pixels
are exact. Inspect Metric Depth shows all images and all pixels. The files are in the host's temp folder, and the oldest
of them are deleted.
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
from .settings import shows_depth
from .temp_files import BoundedFiles

UI_KEY = "spatialfusion_depth"
# The size of a preview: its longest side in pixels, and its images.
PREVIEW_SIDE_PX = 1024
PREVIEW_IMAGES = 4

_FILES = BoundedFiles(max_bytes=2**30)


def depth_preview_ui(
    depth: MetricDepth, cls: type[io.ComfyNode], picture: torch.Tensor | None = None, whole: bool = False
) -> dict[str, list[Any]]:
    """The `ui` value of a node: the pictures as "images", and `viewer_ui`. Empty where the user has switched it off.

    cls: the node, as `execute` gets it. picture: (B, H, W, 3), the depth as colours, if the node has made it already.
    whole: the viewer gets every image and every pixel, whatever the settings.
    """
    if not (whole or shows_depth()):
        return {}
    step = _step(depth)
    if picture is None:
        picture = depth_colours(_every_nth(depth[:PREVIEW_IMAGES], step).to("cpu"))
    else:
        picture = _thinned(picture[:PREVIEW_IMAGES], step)
    images = ui.PreviewImage(picture, cls=cls).as_dict()["images"]
    _FILES.add(_temp_folder() / image["subfolder"] / image["filename"] for image in images)
    return {"images": images, **viewer_ui(depth, whole)}


def viewer_ui(depth: MetricDepth, whole: bool = False) -> dict[str, list[Any]]:
    """What the viewer reads, under UI_KEY. The files are in the host's temp folder.

    Each image of a preview, or of the batch if `whole`, has the host's {filename, subfolder, type} of a .npy. The array
    is little-endian float32 (1 or 2, H, W): metres, inf where there is no surface, and the confidence. An image whose
    confidence is 1 everywhere has no second channel. width and height: its size in pixels. step: it has every step-th
    pixel of the image, beginning with the pixel step // 2. full_width, full_height: the image's size. fov_y_deg: of the
    image. batch: how many images there are, shown or not.
    """
    step = 1 if whole else _step(depth)
    shown = _every_nth(depth if whole else depth[:PREVIEW_IMAGES], step).to("cpu")
    batch, height, width = depth.depth.shape
    size = {"step": step, "full_width": width, "full_height": height, "batch": batch}
    prefix = f"spatialfusion_{uuid4().hex[:8]}"
    saved = [_save_array(shown, index, f"{prefix}_{index + 1:05}_.npy") for index in range(len(shown.depth))]
    _FILES.add(_temp_folder() / entry["filename"] for entry in saved)
    return {UI_KEY: [{**entry, **size} for entry in saved]}


def _step(depth: MetricDepth) -> int:
    """A preview has every n-th pixel of a row and of a column."""
    return -(-max(depth.depth.shape[-2:]) // PREVIEW_SIDE_PX)


def _every_nth(depth: MetricDepth, step: int) -> MetricDepth:
    """The depth at some of its pixels. Not a depth of its own: its pixels are not where a camera would have them."""
    return MetricDepth(_thinned(depth.depth, step), _thinned(depth.confidence, step), depth.fov_y_deg)


def _thinned(values: torch.Tensor, step: int) -> torch.Tensor:
    """(B, H, W, ...) at every step-th row and column, and at least at one."""
    rows, columns = (min(step // 2, size - 1) for size in values.shape[1:3])
    return values[:, rows::step, columns::step]


def _temp_folder() -> Path:
    return Path(folder_paths.get_temp_directory())


def _save_array(depth: MetricDepth, index: int, name: str) -> dict[str, Any]:
    """Write the metres of one image. Returns what the viewer needs to read them."""
    channels = [depth.depth[index]]
    if (depth.confidence[index] < 1).any():
        channels.append(depth.confidence[index])
    folder = _temp_folder()
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / name, torch.stack(channels).numpy().astype("<f4"))
    _, height, width = depth.depth.shape
    saved = ui.SavedResult(name, "", io.FolderType.temp)
    return {**saved, "width": width, "height": height, "fov_y_deg": float(depth.fov_y_deg[index])}
