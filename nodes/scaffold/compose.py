"""Compose Depth Scaffold: placed objects and a camera -> exact metric geometry. It needs no weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.v0_0_2 import io

from ...sf_model.depth.lens import stated_fov_y
from ...sf_model.depth.metric_depth import MetricDepth
from ...sf_model.scaffold import ScaffoldCamera, ScaffoldObject, compose
from ...sf_model.scaffold.layout import Layout
from ..host.camera import to_scaffold_cameras
from ..host.geometry import to_geometry
from ..host.images import to_host
from ..host.layouts import NoLayout
from ..host.notices import warn
from ..host.preview import depth_preview_ui
from ..inputs import (
    BUILD_CATEGORY,
    ScaffoldObjects,
    aliases,
    focal_length_inputs,
    fov_y_input,
    geometry_output,
    metres_input,
    share_input,
    size_inputs,
)
from .inputs import check_masks
from .node_layouts import NodeLayouts, composed_layout_output, connected_layout_input, edited_layout_input

MAX_SIZE_PX = 4096
# Depth, confidence, mask, points and picture of one camera, beside a mask for each object.
PLANES_PER_CAMERA = 9


class SpatialFusionComposeDepth(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionComposeDepth",
            display_name="Compose Depth Scaffold",
            category=BUILD_CATEGORY,
            description=(
                "Gives the exact depth, in metres, of placed boxes, spheres, cylinders and meshes before a camera. It "
                "is for Depth Adapter Apply, the host's geometry nodes and, by Metric Depth to Images, every depth "
                "ControlNet. It needs no model."
            ),
            search_aliases=aliases(
                "compose scene",
                "layout",
                "blockout",
                "render depth",
                "depth from mesh",
                "depth map",
                "3d scene",
                "camera",
                "controlnet depth",
            ),
            inputs=[
                *size_inputs(1024, MAX_SIZE_PX, "Width of the image in pixels.", "Height of the image in pixels."),
                metres_input(
                    "camera_height_m", "Metres from the ground up to the camera.", default=1.6, maximum=1000.0
                ),
                io.Float.Input(
                    "camera_pitch_deg",
                    default=10.0,
                    min=-90.0,
                    max=90.0,
                    step=0.5,
                    tooltip="How far the camera looks down, in degrees; 0 is level, negative looks up.",
                ),
                fov_y_input(
                    "Vertical field of view in degrees: large is wide angle, small is a telephoto lens.",
                    maximum=170.0,
                    step=0.5,
                ),
                io.Boolean.Input("ground", default=True, tooltip="Whether there is a ground plane."),
                io.Float.Input(
                    "ground_extent_m",
                    default=100.0,
                    min=0.1,
                    max=1000.0,
                    step=1.0,
                    advanced=True,
                    tooltip="The depth in metres at which the ground ends. Beyond it is no surface.",
                ),
                share_input(
                    "ground_confidence",
                    "How much Depth Adapter Apply keeps to the ground: 1 as composed, 0 leaves the model free.",
                    default=1.0,
                    step=0.05,
                    advanced=True,
                ),
                share_input(
                    "background_confidence",
                    "The same where nothing was placed: 1 is open sky, 0 lets the model add walls or hills.",
                    default=1.0,
                    step=0.05,
                    advanced=True,
                ),
                ScaffoldObjects.Input(
                    "objects",
                    optional=True,
                    tooltip="From Place Shape and Place Mesh. Without it there is only the ground.",
                ),
                io.Load3DCamera.Input(
                    "camera_info",
                    optional=True,
                    tooltip="A camera of Load 3D, Preview 3D or Create Camera Info. It replaces height and pitch, and "
                    "fov_y_deg where it has its own. A unit is a metre, the floor is the ground, forward is -z. "
                    "Several cameras give a batch.",
                ),
                connected_layout_input(),
                *focal_length_inputs(),
                edited_layout_input(),
            ],
            hidden=[io.Hidden.unique_id],
            outputs=[
                geometry_output(),
                io.Image.Output(display_name="preview", tooltip="The scene, shaded, one colour for each object."),
                io.Mask.Output(
                    display_name="masks", tooltip="A batch: where each object is seen, in the order of placing."
                ),
                composed_layout_output(),
            ],
        )

    @classmethod
    def execute(
        cls,
        width: int,
        height: int,
        camera_height_m: float,
        camera_pitch_deg: float,
        fov_y_deg: float,
        ground: bool,
        ground_extent_m: float,
        ground_confidence: float,
        background_confidence: float,
        objects: tuple[ScaffoldObject, ...] = (),
        camera_info: dict[str, Any] | list[dict[str, Any]] | None = None,
        layout: Layout | NoLayout | str | None = None,
        focal_length_mm: float = 0.0,
        focal_length_px: float = 0.0,
        edited_layout: str = "",
    ) -> io.NodeOutput:
        fov_y_deg = stated_fov_y(fov_y_deg, focal_length_mm, focal_length_px, height, width)
        layouts = NodeLayouts.of(layout, edited_layout)
        camera = ScaffoldCamera.level(camera_height_m, camera_pitch_deg, fov_y_deg)
        confidence = [1.0] * len(objects)
        if layouts.composed is not None:
            scene = layouts.composed.layout
            camera, ground = scene.camera.scaffold(), scene.ground
            objects = (*(thing.scaffold() for thing in scene.objects), *objects)
            confidence = [thing.confidence for thing in scene.objects] + confidence
        cameras = [camera] if camera_info is None else to_scaffold_cameras(camera_info, camera.fov_y_deg)
        check_masks(len(objects), width, height, len(cameras), PLANES_PER_CAMERA if len(cameras) > 1 else 0)
        compositions = [
            compose(
                objects,
                view,
                width,
                height,
                ground_extent_m if ground else None,
                ground_confidence,
                background_confidence,
                _progress(index, len(cameras)),
                confidence,
            )
            for index, view in enumerate(cameras)
        ]
        depth = MetricDepth.joined([composition.depth for composition in compositions])
        picture = to_host(torch.stack([composition.picture for composition in compositions]))
        masks = to_host(torch.cat([composition.masks(len(objects)) for composition in compositions]))
        shown = depth_preview_ui(depth, cls) | layouts.ui() | (warn(cls, layouts.notice) or {})
        return io.NodeOutput(to_geometry(depth, picture), picture, masks, layouts.passed_on, ui=shown)


def _progress(index: int, cameras: int) -> Callable[[int, int], None]:
    """Moves the progress bar while the camera `index` of `cameras` is rendered, and stops if the user cancels."""
    progress = comfy.utils.ProgressBar(100 * cameras)

    def on_progress(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update_absolute(100 * index + 100 * done // total)

    return on_progress
