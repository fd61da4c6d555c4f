"""Metric Depth to Images: the pictures that ControlNets and masks are made of."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from ...sf_model.depth.images import NORMAL_SIGNS, disparity_picture, normal_picture, range_mask, surface_normals
from ..host.geometry import connected_depth, measured_normals
from ..host.graph import GRAPH
from ..host.images import to_host
from ..host.notices import show
from ..inputs import CHANGE_CATEGORY, aliases, geometry_input, metres_input

WHOLE_BATCH, EACH_IMAGE = "whole batch", "each image"


class SpatialFusionDepthToImages(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionDepthToImages",
            display_name="Metric Depth to Images",
            category=CHANGE_CATEGORY,
            description=(
                "Turns metric depth into what other nodes read: a depth picture for depth ControlNets (near is white), "
                "a mask of everything between two distances, and a normal map."
            ),
            search_aliases=aliases(
                "controlnet depth",
                "depth map",
                "disparity",
                "normal map",
                "depth mask",
                "depth range",
            ),
            inputs=[
                geometry_input(),
                metres_input(
                    "near_m",
                    "The depth picture is white here and nearer. 0: chosen by the depth, see automatic_range. Set "
                    "near_m and far_m to compare pictures of several runs.",
                ),
                metres_input("far_m", "The depth picture is black here and farther. 0: chosen by the depth."),
                metres_input("mask_min_m", "The mask is white from this distance on."),
                metres_input("mask_max_m", "The mask is white up to this distance. 0 is no limit."),
                io.Combo.Input(
                    "normal_convention",
                    options=list(NORMAL_SIGNS),
                    default="opengl",
                    advanced=True,
                    tooltip="Green is up in opengl (Blender, Unity), down in directx (Unreal); red is right in both. "
                    "controlnet: red is left and green up, as in NormalBae and ControlNets that were trained with it.",
                ),
                io.Combo.Input(
                    "automatic_range",
                    options=[WHOLE_BATCH, EACH_IMAGE],
                    default=WHOLE_BATCH,
                    optional=True,
                    tooltip="Where near_m or far_m is 0. whole batch: one range for all images, so that videos do not "
                    "flicker. each image: every image uses all greys, as Render MoGe Geometry does.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="depth", tooltip="For depth ControlNets: 1 / metres, near white, no surface black."
                ),
                io.Mask.Output(
                    display_name="mask", tooltip="The surfaces between mask_min_m and mask_max_m, without the sky."
                ),
                io.Image.Output(display_name="normals", tooltip="The normal map; grey where there is no surface."),
            ],
            hidden=[*GRAPH],
        )

    @classmethod
    def execute(
        cls,
        geometry: dict[str, Any],
        near_m: float,
        far_m: float,
        mask_min_m: float,
        mask_max_m: float,
        normal_convention: str,
        automatic_range: str = WHOLE_BATCH,
    ) -> io.NodeOutput:
        depth, notice = connected_depth(cls, geometry)
        # MoGe 2 measures normals too. They are finer than those of its points, and the host renders them too.
        normals = measured_normals(geometry, depth)
        picture = (
            disparity_picture(depth, near_m, far_m, automatic_range == WHOLE_BATCH).unsqueeze(-1).repeat(1, 1, 1, 3)
        )
        return io.NodeOutput(
            to_host(picture),
            to_host(range_mask(depth, mask_min_m, mask_max_m)),
            to_host(normal_picture(surface_normals(depth) if normals is None else normals, normal_convention)),
            ui=show(cls, notice),
        )
