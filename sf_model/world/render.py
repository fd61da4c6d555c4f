"""Batched rendering of scenes: RGB, exact metric z-depth and object indices, on any torch device.

Lambert shading with an ambient term; objects cast shadows on the ground only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..rendering.shading import lit
from ..rendering.zbuffer import GROUND_INDEX, SKY_INDEX
from .packing import Cameras, pack, pack_cameras
from .raycast import (
    NO_PRIMITIVE,
    DevicePrimitives,
    Rays,
    camera_rays,
    ground_depth,
    nearest,
    shadowed,
    surface_normals,
    to_device,
)
from .scene import Scene
from .shading import distance_haze, ground_albedo, sky_color, sky_parameters

# Small enough for a CPU's cache, large enough to fill a GPU.
_CHUNK_PIXELS = {"cpu": 2**16, "cuda": 2**23}


@dataclass(frozen=True)
class Rendering:
    """The images of B scenes."""

    # (B, 3, H, W) float32 in [0, 1].
    rgb: Tensor
    # (B, H, W) float32, z-depth in metres, inf for sky.
    depth_m: Tensor
    # (B, H, W) int64: index into `Scene.objects`, GROUND_INDEX or SKY_INDEX.
    object_index: Tensor


@dataclass(frozen=True)
class _Hits:
    """The nearest surface of every pixel."""

    # (B * N,) metres.
    depth: Tensor
    # (B * N,) ids.
    primitive: Tensor
    # (K,): the pixels that show an object.
    object_pixels: Tensor


def _shade(
    scenes: Sequence[Scene], cameras: Cameras, rays: Rays, hits: _Hits, shadow: Tensor, prims: DevicePrimitives
) -> Tensor:
    """RGB (B * N, 3)."""
    device = hits.depth.device
    batch, pixels = rays.x.shape
    sky = sky_parameters(scenes, device)
    to_sun = torch.from_numpy(cameras.to_sun).to(device, torch.float32)
    depth = hits.depth.view(batch, pixels)
    ground_t = torch.where(torch.isfinite(depth), depth, 0.0)

    x_m, z_m = ground_t * rays.x, ground_t * rays.z
    per_pixel = ground_t * rays.pixel_slope
    albedo = ground_albedo(scenes, x_m, z_m, per_pixel, per_pixel * ground_t / rays.camera_height_m)
    facing = -to_sun[:, 1:2] * (1.0 - shadow.view(batch, pixels))
    up = torch.full_like(facing, -1.0)
    ground = lit(albedo, up, facing, sky[:, None, 9:12], sky[:, None, 6:9])
    ground = distance_haze(ground, ground_t, sky)
    rgb = torch.where(torch.isfinite(depth)[..., None], ground, sky_color(sky, rays.x, rays.y, rays.z)).flatten(0, 1)

    visible = hits.object_pixels
    if len(visible):
        primitive = hits.primitive[visible]
        normal = surface_normals(prims, rays, hits.depth, primitive, visible)
        scene = prims.scene[primitive]
        facing = (normal * to_sun[scene]).sum(dim=1).clamp(min=0.0)
        rgb[visible] = lit(prims.rgb[primitive], normal[:, 1], facing, sky[scene, 9:12], sky[scene, 6:9])
    return rgb.clamp(0.0, 1.0)


def _render_once(
    scenes: Sequence[Scene], width: int, height: int, device: torch.device, with_rgb: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """RGB (B, 3, H, W) or None, depth (B, H, W) and object index (B, H, W), by one ray a pixel."""
    cameras = pack_cameras(scenes, width / height)
    packed = pack(scenes, cameras, width, height)
    prims = to_device(packed, cameras, device)
    rays = camera_rays(cameras, width, height, device)
    depth, primitive = nearest(prims, packed.rect, ground_depth(rays), width, height)
    is_object = primitive != NO_PRIMITIVE
    visible = is_object.nonzero().squeeze(1)
    background = torch.where(torch.isfinite(depth), GROUND_INDEX, SKY_INDEX)
    index = background.index_put((visible,), prims.object[primitive[visible]])
    shape = (len(scenes), height, width)
    rgb = None
    if with_rgb:
        on_ground = torch.isfinite(depth) & ~is_object
        shadow = shadowed(prims, packed.shadow_rect, depth, on_ground, width, height)
        flat = _shade(scenes, cameras, rays, _Hits(depth, primitive, visible), shadow, prims)
        rgb = flat.view(*shape, 3).permute(0, 3, 1, 2).contiguous()
    return rgb, depth.view(shape), index.view(shape)


def _render_chunk(
    scenes: Sequence[Scene], width: int, height: int, device: torch.device, supersample: int
) -> Rendering:
    if supersample == 1:
        return Rendering(*_render_once(scenes, width, height, device, with_rgb=True))
    fine, _, _ = _render_once(scenes, width * supersample, height * supersample, device, with_rgb=True)
    _, depth, index = _render_once(scenes, width, height, device, with_rgb=False)
    return Rendering(avg_pool2d(fine, supersample), depth, index)


@torch.no_grad()
def render(
    scenes: Sequence[Scene], width: int, height: int, device: torch.device | str = "cpu", supersample: int = 1
) -> Rendering:
    """Render a batch of scenes at width x height pixels.

    Depth and object indices are those of the ray through the pixel's centre. supersample: colours are the mean of
    supersample x supersample rays. On a CPU use one torch thread a process, as data-loader workers do: the arrays are
    small, and on a busy machine threads wait for one another.
    Raises ValueError for an empty batch or sizes below 1, KeyError for unknown names.
    """
    if not scenes or min(width, height, supersample) < 1:
        raise ValueError("render needs at least one scene and positive width, height and supersample")
    device = torch.device(device)
    budget = _CHUNK_PIXELS.get(device.type, _CHUNK_PIXELS["cuda"])
    step = max(1, budget // (width * height * supersample**2))
    chunks = [
        _render_chunk(scenes[i : i + step], width, height, device, supersample) for i in range(0, len(scenes), step)
    ]
    return Rendering(
        torch.cat([c.rgb for c in chunks]),
        torch.cat([c.depth_m for c in chunks]),
        torch.cat([c.object_index for c in chunks]),
    )
