"""Load Metric Depth: a file in the input or output folder -> geometry."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management
from comfy_api.v0_0_2 import io

from ...sf_model.depth.lens import AXIS
from ...sf_model.files.depth_files import SUFFIXES, read_sequence
from ...sf_model.files.sequences import frames_of
from ...sf_model.files.units import AUTO, FOV_TOLERANCE_DEG, METRES_PER_UNIT, Statements
from ..host.files import (
    contents_digest,
    folder_digest,
    input_file,
    is_input_file,
    may_be_read,
    offered_files,
    read_file,
)
from ..host.geometry import to_geometry
from ..host.images import depth_colours, to_host
from ..host.notices import Notice, show
from ..host.preview import depth_preview_ui
from ..inputs import (
    SOURCES_CATEGORY,
    aliases,
    distance_along_input,
    focal_length_inputs,
    fov_y_input,
    geometry_output,
)

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
                "Loads metric depth from a file, or from numbered files: EXR (a Z pass of Blender, or by Save Metric "
                "Depth), grey PNG or TIFF of 16 bits, TIFF or PFM of floats, NPY or NPZ. Zero, infinite and NaN "
                "values, and those from 1e9 on, are no surface. The node says what was assumed."
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
                "tiff",
                "pfm",
                "kitti",
                "depth sequence",
            ),
            inputs=[
                io.Combo.Input(
                    "file",
                    options=offered_files(SUFFIXES, OUTPUT_ENDINGS),
                    tooltip="An .exr, .png, .tif, .pfm, .npy or .npz file in ComfyUI's input folder; the button "
                    "uploads one. '<name> [output]' is a file in the output folder.",
                ),
                io.Combo.Input(
                    "unit",
                    options=[AUTO, *METRES_PER_UNIT],
                    default=AUTO,
                    tooltip="What one unit of the file's numbers is. auto: what the file states, else millimetres for "
                    "whole numbers and metres for others; numbers that look normalised are refused, and the node says "
                    "what was assumed.",
                ),
                fov_y_input(
                    "The camera's vertical field of view in degrees, for files without a camera. 0 takes the file's. "
                    f"Where both are given, they may differ by {FOV_TOLERANCE_DEG} degrees, and the file's is used.",
                    default=0.0,
                    minimum=0.0,
                ),
                io.Float.Input(
                    "metres_per_unit",
                    default=0.0,
                    min=0.0,
                    max=1e6,
                    step=0.0001,
                    round=False,
                    optional=True,
                    tooltip="Any other unit: how many metres one unit of the numbers is. Above 0 it takes the place of "
                    "unit, which must be auto.",
                ),
                distance_along_input(),
                *focal_length_inputs(),
                io.String.Input(
                    "layer",
                    default="",
                    optional=True,
                    tooltip="Of an EXR with several depths: the layer, part or channel to read, such as "
                    "ViewLayer.Depth. Empty: the only depth that there is. The error lists the channels.",
                ),
                io.Int.Input(
                    "frames",
                    default=1,
                    min=0,
                    max=4096,
                    optional=True,
                    tooltip="How many numbered files to load as one batch, from this one on (depth_0001.exr, "
                    "depth_0002.exr). 0: all up to the first gap.",
                ),
            ],
            outputs=[geometry_output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        """The host does not compare an input that is named here with the list. So new files are accepted too."""
        return True if file is None else is_input_file(file, "depth")

    @classmethod
    def fingerprint_inputs(cls, file: str | None, frames: int | None = 1, **_: Any) -> str:
        digest = contents_digest(file, "depth")
        # The host does not know what is linked before the run.
        return (
            digest
            if file is None or frames == 1
            else digest + folder_digest(file, "depth", (Path(file).suffix.lower(),))
        )

    @classmethod
    def execute(
        cls,
        file: str,
        unit: str,
        fov_y_deg: float,
        metres_per_unit: float = 0.0,
        distance_along: str = AXIS,
        focal_length_mm: float = 0.0,
        focal_length_px: float = 0.0,
        layer: str = "",
        frames: int = 1,
    ) -> io.NodeOutput:
        path = input_file(file, "depth")
        stated = Statements(unit, metres_per_unit, fov_y_deg, focal_length_mm, focal_length_px, distance_along, layer)
        files = ((frame.name, partial(_contents, frame)) for frame in frames_of(path, frames, may_be_read(path)))
        loaded = read_sequence(files, stated)
        picture = to_host(depth_colours(loaded.depth))
        shown = depth_preview_ui(loaded.depth, cls, picture) | (show(cls, Notice(loaded.notice, loaded.doubtful)) or {})
        return io.NodeOutput(to_geometry(loaded.depth, picture), ui=shown)


def _contents(path: Path) -> bytes:
    comfy.model_management.throw_exception_if_processing_interrupted()
    return read_file(path, "save the depth pass alone")
