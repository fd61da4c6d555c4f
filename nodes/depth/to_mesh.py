"""Metric Depth to Mesh: a mesh and a point cloud for the host's own 3D viewers and savers.

From 0.30 on, the host's Convert MoGe Point Map to Mesh takes our geometry too. This node adds what that one lacks:
older hosts, floors seen at a low angle, confidence, a limit to the distance, another texture, and the point cloud.
"""

from __future__ import annotations

import inspect
from io import BytesIO
from typing import Any

import torch
from comfy_api.v0_0_2 import Types, io

from ...sf_model.depth.colours import FAR_M
from ...sf_model.depth.mesh import DepthMesh, depth_to_mesh, depth_to_points, usable_pixels
from ...sf_model.depth.metric_depth import MAX_DEPTH_M, MIN_DEPTH_M, MetricDepth
from ...sf_model.files.ply import ply_bytes
from ..host.geometry import connected_depth, texture
from ..host.graph import GRAPH
from ..host.images import depth_colours
from ..host.notices import show
from ..inputs import LOOK_CATEGORY, aliases, batch_index_input, geometry_input, share_input

# Both types. Preview 3D and Save 3D Model take FILE_3D. Preview Point Cloud and Save Point Cloud, which 0.18.2 does not
# have, take FILE_3D_PLY.
PointCloudFile = io.Custom("FILE_3D_PLY,FILE_3D")
# Before 0.30 a mesh has neither texture nor colours.
HOST_MESH_HAS_TEXTURE = "texture" in inspect.signature(Types.MESH).parameters


class SpatialFusionDepthToMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionDepthToMesh",
            display_name="Metric Depth to Mesh",
            category=LOOK_CATEGORY,
            description=(
                "Turns the depth into a mesh and a point cloud in metres, for ComfyUI's 3D viewers and savers. The "
                "camera is at the origin and looks along -z, y is up, as in glTF."
            ),
            search_aliases=aliases("mesh", "point cloud", "ply", "glb", "3d", "depth to mesh", "depth to 3d"),
            inputs=[
                geometry_input(),
                batch_index_input("Which image of the batch, from 0 on.", maximum=4095),
                io.Int.Input(
                    "decimation",
                    default=1,
                    min=1,
                    max=32,
                    advanced=True,
                    tooltip="Takes every n-th pixel across and down: 1 takes all, 2 a quarter of them.",
                ),
                share_input(
                    "discontinuity_threshold",
                    "Cuts the mesh where neighbouring surfaces are apart by more than this share of the depth. So no "
                    "face is stretched from an object to what is behind it. 0 cuts nowhere.",
                    default=0.05,
                ),
                share_input(
                    "confidence_threshold",
                    "Leaves out pixels whose confidence is below this. 0 keeps all.",
                    default=0.0,
                    advanced=True,
                ),
                io.Float.Input(
                    "max_depth_m",
                    default=FAR_M,
                    min=MIN_DEPTH_M,
                    max=MAX_DEPTH_M,
                    step=0.1,
                    tooltip=(
                        "Leaves out what is farther than this many metres. A floor that reaches the horizon would make "
                        "the rest tiny in a viewer."
                    ),
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="Gives the colours, for example the generated image. Without it they are the geometry's "
                    "photo or depth.",
                ),
            ],
            outputs=[
                io.Mesh.Output(
                    display_name="mesh",
                    tooltip="For Save 3D Model and the host's mesh nodes. With a texture where the host supports it.",
                ),
                PointCloudFile.Output(
                    display_name="point_cloud",
                    tooltip="A coloured .ply for Preview 3D, Preview Point Cloud, Save 3D Model and Save Point Cloud.",
                ),
            ],
            hidden=[*GRAPH],
        )

    @classmethod
    def execute(
        cls,
        geometry: dict[str, Any],
        batch_index: int,
        decimation: int,
        discontinuity_threshold: float,
        confidence_threshold: float,
        max_depth_m: float,
        image: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        depth, notice = connected_depth(cls, geometry)
        depth = _one_image(depth, batch_index)
        picture = _picture(geometry if image is None else {"image": image}, depth, batch_index)
        usable = usable_pixels(depth, decimation, confidence_threshold, max_depth_m)
        if not usable.any():
            raise ValueError(
                "raise max_depth_m, or lower confidence_threshold or decimation: nothing is left of this depth. No "
                f"pixel has a surface within {max_depth_m:g} m and a confidence of {confidence_threshold:g}"
            )
        mesh = depth_to_mesh(depth, usable, decimation, discontinuity_threshold)
        if len(mesh.faces) == 0:
            _, height, width = depth.depth.shape
            raise ValueError(
                "raise discontinuity_threshold (0 cuts nowhere), or lower decimation: the mesh has no faces. At "
                f"{width}x{height} pixels, decimation {decimation} and discontinuity_threshold "
                f"{discontinuity_threshold:g} no three neighbours belong to one surface"
            )
        colors = texture({"image": picture}, depth)[0][usable]
        cloud = ply_bytes(depth_to_points(depth, usable), colors)
        return io.NodeOutput(_host_mesh(mesh, picture), Types.File3D(BytesIO(cloud), "ply"), ui=show(cls, notice))


def _one_image(depth: MetricDepth, index: int) -> MetricDepth:
    count = len(depth.depth)
    if index >= count:
        raise ValueError(
            f"set batch_index below {count}: it is {index}, and this geometry has {count} image(s), counted from 0"
        )
    return depth[index : index + 1]


def _picture(source: dict[str, Any], depth: MetricDepth, index: int) -> torch.Tensor:
    """(1, height, width, 3) in [0, 1], of any size: the image at `index`, or the only one.

    Without any it is the depth as colours.
    """
    if "image" not in source:
        return depth_colours(depth)
    images = source["image"]
    if len(images) != 1 and index >= len(images):
        raise ValueError(
            f"connect one image for the colours, or one for each of the geometry's: batch_index is {index}, and there "
            f"are {len(images)}"
        )
    return images[min(index, len(images) - 1)][None, ..., :3].float()


def _host_mesh(mesh: DepthMesh, picture: torch.Tensor) -> Types.MESH:
    look = {"uvs": mesh.uvs[None].cpu(), "texture": picture.cpu()} if HOST_MESH_HAS_TEXTURE else {}
    return Types.MESH(vertices=mesh.vertices[None].cpu(), faces=mesh.faces[None].cpu(), **look)
