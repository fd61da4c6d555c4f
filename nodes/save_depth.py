"""Save Metric Depth: a picture to look at and the metres to compute with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
from comfy_api.v0_0_2 import io, ui

from ..sf_model.metric_depth import MetricDepth
from ..sf_model.picture import depth_picture
from .geometry import to_metric_depth
from .sockets import CATEGORY, GEOMETRY_LIMITS, geometry_input


class SpatialFusionSaveDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionSaveDepth",
            display_name="Save Metric Depth",
            category=CATEGORY,
            description=(
                "Writes the depth to the output folder: a .png (bright 0.5 m, dark 100 m, grey no surface) "
                "and, of the same name, a .npz for NumPy: depth_m (metres, inf where there is no surface), confidence "
                "and fov_y_deg."
            ),
            search_aliases=["spatialfusion", "save depth", "export depth", "npz", "numpy", "metres"],
            inputs=[
                geometry_input(
                    "geometry", f"From Predict Metric Depth, MoGe 2 or Depth Anything 3 Metric. {GEOMETRY_LIMITS}"
                ),
                io.String.Input(
                    "filename_prefix",
                    default="SpatialFusion_depth",
                    tooltip="The files' names begin with this; it may hold folders, and %year%, %month% and the like.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, geometry: dict[str, Any], filename_prefix: str) -> io.NodeOutput:
        depth = to_metric_depth(geometry)
        pictures = ui.ImageSaveHelper.save_images(
            depth_picture(depth).movedim(1, -1), filename_prefix, io.FolderType.output, cls, compress_level=4
        )
        arrays = [_save_arrays(depth, index, picture) for index, picture in enumerate(pictures)]
        return io.NodeOutput(ui={"images": pictures, "metric_depth": arrays})


def _save_arrays(depth: MetricDepth, index: int, picture: ui.SavedResult) -> ui.SavedResult:
    """Write one image's arrays beside its picture."""
    name = f"{Path(picture.filename).stem}.npz"
    np.savez_compressed(
        Path(folder_paths.get_output_directory()) / picture.subfolder / name,
        depth_m=depth.depth[index].cpu().numpy().astype(np.float32),
        confidence=depth.confidence[index].cpu().numpy().astype(np.float32),
        fov_y_deg=depth.fov_y_deg[index].cpu().numpy().astype(np.float32),
    )
    return ui.SavedResult(name, picture.subfolder, io.FolderType.output)
