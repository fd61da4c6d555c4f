"""Save Metric Depth: writes a picture to look at and the metres to compute with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.v0_0_2 import io, ui

from ...sf_model.depth.metric_depth import MetricDepth
from ...sf_model.files.writing import exr_bytes, npz_bytes, png_bytes
from ..host.geometry import connected_depth, passed_on
from ..host.graph import GRAPH
from ..host.images import depth_colours
from ..host.notices import show
from ..host.preview import viewer_ui
from ..inputs import PASSED_ON, SOURCES_CATEGORY, aliases, geometry_input, geometry_output

# By the name of a format: what ends the file's name, after the name of the picture, and what makes its bytes.
FORMATS: dict[str, tuple[str, Callable[[MetricDepth, int], bytes]]] = {
    "npz": (".npz", npz_bytes),
    "exr 32-bit": (".exr", exr_bytes),
    "png 16-bit mm": ("mm.png", png_bytes),
}


class SpatialFusionSaveDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionSaveDepth",
            display_name="Save Metric Depth",
            category=SOURCES_CATEGORY,
            description=(
                "Writes the depth to the output folder: a .png (bright 0.5 m, dark 100 m, grey no surface) and, under "
                "the same name, the metres and the camera as .npz for NumPy, as 32-bit .exr, or as 16-bit .png in "
                "millimetres. Load Metric Depth reads them back. The geometry passes through as it is."
            ),
            search_aliases=aliases(
                "save depth",
                "export depth",
                "npz",
                "numpy",
                "metres",
                "exr",
                "16-bit png",
                "blender",
            ),
            inputs=[
                geometry_input(),
                io.String.Input(
                    "filename_prefix",
                    default="SpatialFusion_depth",
                    tooltip="The files' names begin with this. It may hold folders, and %date:yyyy-MM-dd%, "
                    "%Node.widget%, %year% and the like, as in ComfyUI's own savers.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="npz",
                    optional=True,
                    tooltip="npz: depth_m (inf where there is no surface), confidence and fov_y_deg for NumPy. exr "
                    "32-bit: channels Z and confidence, exact. png 16-bit mm: whole millimetres up to 65.535 m, 0 is "
                    "no surface, without the confidence.",
                ),
            ],
            outputs=[geometry_output(PASSED_ON)],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, *GRAPH],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, geometry: dict[str, Any], filename_prefix: str, format: str = "npz") -> io.NodeOutput:
        depth, notice = connected_depth(cls, geometry)
        ending, encode = FORMATS[format]
        # All images are encoded before the first file is written. So an image that the format cannot hold leaves no
        # half of a batch behind.
        contents = [encode(depth, index) for index in range(len(depth.depth))]
        pictures = ui.ImageSaveHelper.save_images(
            depth_colours(depth), filename_prefix, io.FolderType.output, cls, compress_level=4
        )
        saved = [_save_beside(picture, ending, content) for picture, content in zip(pictures, contents)]
        shown = {"images": pictures, "metric_depth": saved, **viewer_ui(depth), **(show(cls, notice) or {})}
        return io.NodeOutput(passed_on(geometry, depth), ui=shown)


def _save_beside(picture: ui.SavedResult, ending: str, content: bytes) -> ui.SavedResult:
    """Write the metres of one image under the name of its picture."""
    name = f"{Path(picture.filename).stem}{ending}"
    (Path(folder_paths.get_output_directory()) / picture.subfolder / name).write_bytes(content)
    return ui.SavedResult(name, picture.subfolder, io.FolderType.output)
