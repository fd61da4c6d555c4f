"""Load Metric Depth: a file in the input or output folder -> geometry."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ...sf_model.files.depth_files import SUFFIXES, load_depth
from ...sf_model.files.units import AUTO, FOV_TOLERANCE_DEG, METRES_PER_UNIT
from ..host.files import contents_digest, input_file, is_input_file, offered_files, read_file
from ..host.geometry import to_geometry
from ..host.images import depth_colours, to_host
from ..host.preview import depth_preview_ui
from ..inputs import SOURCES_CATEGORY, aliases, fov_y_input, geometry_output

# The endings of Save Metric Depth. Most other pictures in an output folder are not depth.
OUTPUT_ENDINGS = (".exr", ".npy", ".npz", "mm.png")


class SpatialFusionLoadDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionLoadDepth",
            display_name="Load Metric Depth",
            category=SOURCES_CATEGORY,
            description=(
                "Loads metric depth from a file: EXR (a Z pass of Blender, or by Save Metric Depth), grey 16-bit PNG, "
                "NPY or NPZ. Zero, infinite and NaN values, and those from 1e9 on, are no surface."
            ),
            search_aliases=aliases(
                "load depth",
                "import depth",
                "exr",
                "openexr",
                "blender",
                "z pass",
                "16-bit png",
                "npy",
                "npz",
            ),
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
                fov_y_input(
                    "The camera's vertical field of view in degrees, for files without a camera. 0 takes the file's. "
                    f"Where both are given, they may differ by {FOV_TOLERANCE_DEG} degrees, and the file's is used.",
                    default=0.0,
                    minimum=0.0,
                ),
            ],
            outputs=[geometry_output()],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        """The host does not compare an input that is named here with the list. So new files are accepted too."""
        return True if file is None else is_input_file(file, "depth")

    @classmethod
    def fingerprint_inputs(cls, file: str, unit: str, fov_y_deg: float) -> str:
        return contents_digest(file, "depth")

    @classmethod
    def execute(cls, file: str, unit: str, fov_y_deg: float) -> io.NodeOutput:
        path = input_file(file, "depth")
        depth = load_depth(read_file(path, "save the depth pass alone"), path.name, unit, fov_y_deg)
        picture = to_host(depth_colours(depth))
        return io.NodeOutput(to_geometry(depth, picture), ui=depth_preview_ui(depth, cls, picture))
