"""MetricDepth <-> the host's geometry dicts.

MOGE_GEOMETRY
  depth (B, H, W)         metres; inf, or False in mask, where there is no surface
  mask (B, H, W)          bool
  intrinsics (B, 3, 3)    normalised by width and height; panoramas have none
  points (B, H, W, 3)     OpenCV axes
  image (B, H, W, 3)
  normal (B, H, W, 3)     OpenCV axes; from MoGe 2
  confidence (B, H, W)    in [0, 1]; only in ours
MoGe's principal point is always the centre. A geometry of another extension with another principal point is refused, as
depth files are.

DA3_GEOMETRY
  depth (B, H, W)
  mode                    only in this kind of dict
  sky (B, H, W)           probability; from the models Metric and Mono
  confidence (B, H, W)    without an upper bound; from Small and Base
  intrinsics (1, B, 3, 3) in pixels; from Small and Base
Only the Metric model measures; `da3.py` makes metres of its depth. Mono's dict looks the same, so the two cannot be
told apart. The intrinsics are in pixels of the size that the model ran at, which is not the depth's size. So only their
ratios are used. The principal point is taken as the centre: "cam_dec" puts it there, and "ray_pose" estimates it near
there. A single view has a unit matrix.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from comfy_api.v0_0_2 import io

from ...sf_model.depth.metric_depth import MetricDepth
from ...sf_model.depth.summary import range_sentence
from ...sf_model.files.units import CAMERA_TOLERANCE
from . import da3
from .images import depth_colours, to_host
from .notices import Notice


def to_geometry(
    depth: MetricDepth, image: torch.Tensor, normals: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """The MOGE_GEOMETRY of a depth, where the host keeps results.

    image: its texture (B, H, W, 3) in [0, 1]. normals: (B, H, W, 3) in OpenCV axes, if there are measured ones.
    """
    geometry = {
        "depth": depth.depth,
        "mask": depth.valid,
        "intrinsics": depth.intrinsics(),
        "points": depth.points(),
        "confidence": depth.confidence,
        "image": image,
    }
    if normals is not None:
        geometry["normal"] = normals
    return {name: to_host(value) for name, value in geometry.items()}


def connected_depth(
    node: type[io.ComfyNode], geometry: dict[str, Any], input_name: str = "geometry", any_scale: bool = False
) -> tuple[MetricDepth, Notice | None]:
    """`to_metric_depth` of what is connected to an input of the running node, and what was assumed about it.

    The schema of the node must have the hidden inputs `graph.GRAPH`.
    """
    if "mode" not in geometry:
        return to_metric_depth(geometry, any_scale), None
    run = da3.find_run(node, input_name)
    depth = to_metric_depth(geometry, any_scale, run)
    return depth, None if any_scale else _da3_notice(depth, run, "intrinsics" not in geometry)


def to_metric_depth(
    geometry: dict[str, Any], any_scale: bool = False, da3_run: da3.Da3Run = da3.ASSUMED_RUN
) -> MetricDepth:
    """The depth in either of the host's geometry dicts. ValueError, with the remedy, if it is not in metres.

    Depth Anything 3 Mono and MoGe 1 cannot be told from Metric and MoGe 2 by these dicts: all are taken as metres.
    any_scale: takes depth without a unit too. The caller then scales it to metres.
    da3_run: how Depth Anything 3 was run. Its output becomes metres by the size of the run.
    """
    if "depth" not in geometry:
        raise ValueError("use a model that gives depth, or Predict Metric Depth: this geometry has no depth")
    depth = geometry["depth"].float()
    if depth.ndim != 3:
        raise ValueError(
            "connect a geometry with a depth (batch, height, width), such as Predict Metric Depth's: this one is "
            f"{tuple(depth.shape)}"
        )
    is_da3 = "mode" in geometry
    if is_da3 and not any_scale:
        _check_metres(geometry)
    surface = geometry["sky"] < 0.5 if "sky" in geometry else geometry.get("mask")
    if surface is not None:
        depth = torch.where(surface.to(depth.device).bool(), depth, torch.full_like(depth, torch.inf))
    try:
        fov_y_deg = _da3_fov_y_deg(geometry, depth) if is_da3 else _fov_y_deg(geometry, depth)
        if is_da3 and not _is_da3_relative(geometry):
            _, height, width = depth.shape
            focal = 0.5 * height / width / torch.tan(torch.deg2rad(fov_y_deg) / 2)
            depth = depth * da3_run.metres_per_output(height, width, focal).view(-1, 1, 1)
        return MetricDepth.checked(depth=depth, confidence=_confidence(geometry, depth), fov_y_deg=fov_y_deg)
    except ValueError as error:
        raise ValueError(
            "connect Predict Metric Depth, or a depth estimator that gives metres: this geometry cannot be used, "
            f"because {error}"
        ) from error


def passed_on(geometry: dict[str, Any], depth: MetricDepth) -> dict[str, Any]:
    """The geometry itself; for one of Depth Anything 3, whose depth this is, the same as MOGE_GEOMETRY."""
    return to_geometry(depth, texture(geometry, depth)) if "mode" in geometry else geometry


def texture(geometry: dict[str, Any], depth: MetricDepth) -> torch.Tensor:
    """(B, H, W, 3) in [0, 1], of the depth's size and batch: the geometry's image, or the depth as colours."""
    count, height, width = depth.depth.shape
    if "image" not in geometry:
        return depth_colours(depth)
    image = geometry["image"].to(depth.depth)[..., :3].movedim(-1, 1)
    if image.shape[-2:] != (height, width):
        image = F.interpolate(image, size=(height, width), mode="bilinear", antialias=True)
    return image.movedim(1, -1).expand(count, -1, -1, -1)


def measured_normals(geometry: dict[str, Any], depth: MetricDepth) -> torch.Tensor | None:
    """(B, H, W, 3) the normals that a model measured, on the depth's device. None where the geometry has none.

    depth: that of the geometry. Normals of another size or batch are of something else.
    """
    normals = geometry.get("normal")
    if normals is None or tuple(normals.shape) != (*depth.depth.shape, 3):
        return None
    return normals.to(depth.depth)


def _check_metres(geometry: dict[str, Any]) -> None:
    """ValueError for a Depth Anything 3 geometry of the models whose depth has no unit."""
    if _is_da3_relative(geometry):
        raise ValueError(
            "load the Depth Anything 3 Metric model, use MoGe 2, or scale this depth to metres first, with the "
            "distance_m of something in the image in Adjust Metric Depth, moving the whole image: this Depth Anything "
            "3 geometry is not in metres, because the Small and Base models give depth without a scale"
        )


def _is_da3_relative(geometry: dict[str, Any]) -> bool:
    """Whether a Depth Anything 3 geometry is of Small or Base. The other two models give the same keys."""
    return "confidence" in geometry or "sky" not in geometry


def _da3_notice(depth: MetricDepth, run: da3.Da3Run, is_camera_assumed: bool) -> Notice:
    height, width = depth.depth.shape[-2:]
    run_height, run_width = run.size(height, width)
    matrix = depth.intrinsics()[0]
    factor = float(run.metres_per_output(height, width, matrix[0, 0]))
    known = "Run Depth Anything 3 ran" if run.found else "it is not known how Run Depth Anything 3 ran, assumed is"
    camera = (
        f", and the camera is the one that ComfyUI assumes, with a focal length of {da3.DEFAULT_FOCAL:g} widths. For "
        "another camera, use Image to Metric Depth with the encoding raw"
    )
    return Notice(
        f"Depth Anything 3: metres are its output times {factor:.3g}, as of the Metric model. {known} at "
        f"{run_width}x{run_height} pixels{camera if is_camera_assumed else ''}. {range_sentence(depth)}",
        doubtful=not run.found,
    )


def _confidence(geometry: dict[str, Any], depth: torch.Tensor) -> torch.Tensor:
    if "confidence" in geometry and "mode" not in geometry:
        return geometry["confidence"].to(depth)
    return torch.ones_like(depth)


def _fov_y_deg(geometry: dict[str, Any], depth: torch.Tensor) -> torch.Tensor:
    if "intrinsics" not in geometry:
        raise ValueError("it has no camera (a panorama?)")
    batch, height, width = depth.shape
    intrinsics = geometry["intrinsics"].to(depth).reshape(-1, 3, 3).expand(batch, 3, 3)
    focal_x_px, focal_y_px = intrinsics[:, 0, 0] * width, intrinsics[:, 1, 1] * height
    if not ((focal_x_px / focal_y_px - 1).abs() <= CAMERA_TOLERANCE).all():
        raise ValueError(
            f"its intrinsics contradict its size: pixels are square, but at {width}x{height} pixels the focal length "
            f"is {focal_x_px[0]:.1f} pixels across and {focal_y_px[0]:.1f} down"
        )
    _check_centre(intrinsics[:, :2, 2])
    return torch.rad2deg(2 * torch.atan(0.5 / intrinsics[:, 1, 1]))


def _check_centre(point: torch.Tensor) -> None:
    """ValueError for a principal point (B, 2), in parts of the size, that is not the centre. Depth files have this
    rule too."""
    off = (point - 0.5).abs().amax(dim=1)
    if not (off <= CAMERA_TOLERANCE).all():
        x, y = point[off.argmax()].tolist()
        raise ValueError(
            f"its principal point is off the centre, at {x:.2f} of its width and {y:.2f} of its height (a cropped "
            "picture?). The camera has to look through the centre: measure the depth after the crop"
        )


def _da3_fov_y_deg(geometry: dict[str, Any], depth: torch.Tensor) -> torch.Tensor:
    """(B,) from the cameras of several views, whose principal point is half the size.

    A single view has no camera, and the host's search for cameras can fail. Then it is what the host assumes.
    """
    batch, height, width = depth.shape
    assumed = depth.new_full((batch,), 0.5 * height / (da3.DEFAULT_FOCAL * width))
    half_height = assumed
    if "intrinsics" in geometry:
        intrinsics = geometry["intrinsics"].to(depth).reshape(-1, 3, 3)
        half_height = intrinsics[:, 1, 2] / intrinsics[:, 1, 1]
    found = torch.isfinite(half_height) & (half_height > 0)
    return torch.rad2deg(2 * torch.atan(torch.where(found, half_height, assumed)))
