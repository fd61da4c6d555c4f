"""Load Metric Depth: a file of the input or output folder -> geometry."""

from __future__ import annotations

import comfy.model_management
from comfy_api.v0_0_2 import io

from ...sf_model.depth.colours import depth_picture
from ...sf_model.files.depth_files import SUFFIXES, load_depth
from ...sf_model.files.units import AUTO, FOV_TOLERANCE_DEG, METRES_PER_UNIT
from ..host.files import contents_digest, input_file, is_input_file, offered_files, read_file
from ..host.geometry import to_geometry
from ..host.preview import depth_preview_ui
from ..inputs import CATEGORY, MoGeGeometry

# Of the many pictures in an output folder those alone that Save Metric Depth wrote as metres.
OUTPUT_ENDINGS = (".exr", ".npy", ".npz", "mm.png")


class SpatialFusionLoadDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionLoadDepth",
            display_name="Load Metric Depth",
            category=CATEGORY,
            description=(
                "Loads metric depth from a file: EXR (a Z pass of Blender, or by Save Metric Depth), grey 16-bit PNG, "
                "NPY or NPZ. Zero, infinite and NaN values, and those from 1e9 on, are no surface."
            ),
            search_aliases=[
                "spatialfusion",
                "load depth",
                "import depth",
                "exr",
                "openexr",
                "blender",
                "z pass",
                "16-bit png",
                "npy",
                "npz",
            ],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=offered_files(SUFFIXES, OUTPUT_ENDINGS),
                    tooltip="An .exr, .png, .npy or .npz file in ComfyUI's input folder; the button uploads one. "
                    "'<name> [output]' is a file in the output folder.",
                ),
                io.Combo.Input(
                    "unit",
                    options=[AUTO, *METRES_PER_UNIT],
                    default=AUTO,
                    tooltip="What one unit of the file's numbers is. auto: what the file states, else millimetres for "
                    "whole numbers and metres for others; numbers that look normalised are refused.",
                ),
                io.Float.Input(
                    "fov_y_deg",
                    default=0.0,
                    min=0.0,
                    max=179.0,
                    step=0.1,
                    tooltip="The camera's vertical field of view in degrees, for files without a camera; 0 takes the "
                    f"file's. Where both are given, they may differ by {FOV_TOLERANCE_DEG} degrees, and the file's is "
                    "used.",
                ),
            ],
            outputs=[
                MoGeGeometry.Output(
                    display_name="geometry",
                    tooltip="Metric depth with its camera, as the host's geometry nodes use it.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        """Naming `file` here also lets files through that came after the list was made, as the host's loaders do."""
        return True if file is None else is_input_file(file, "depth")

    @classmethod
    def fingerprint_inputs(cls, file: str, unit: str, fov_y_deg: float) -> str:
        return contents_digest(file, "depth")

    @classmethod
    def execute(cls, file: str, unit: str, fov_y_deg: float) -> io.NodeOutput:
        path = input_file(file, "depth")
        depth = load_depth(read_file(path, "save the depth pass alone"), path.name, unit, fov_y_deg)
        picture = depth_picture(depth).movedim(1, -1).to(comfy.model_management.intermediate_device())
        return io.NodeOutput(to_geometry(depth, picture), ui=depth_preview_ui(depth, cls, picture))
