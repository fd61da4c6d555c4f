"""The host's camera dict (LOAD3D_CAMERA) -> the camera of a composed scene.

The 3D viewer writes the dict. It holds position and target {x, y, z} in scene units, with y up and right-handed axes;
zoom, which multiplies the focal length; and cameraType. Newer hosts add quaternion {x, y, z, w} and fov. The quaternion
is the camera's rotation in the world; without rotation the camera looks along -z. fov is the vertical field of view in
degrees. The host's Batch Cameras gives a list of such dicts. One scene unit is one metre here, and the viewer's floor
is the ground: an object at (x_m, y_m, z_m) stands at the viewer's (x_m, y_m, -z_m).
"""

from __future__ import annotations

import math
from typing import Any

from ...sf_model.scaffold import ScaffoldCamera


def to_scaffold_cameras(camera_info: Any, fov_y_deg: float) -> list[ScaffoldCamera]:
    """One camera, or each of a list. fov_y_deg: used if a dict has no fov.

    ValueError, with the remedy, for anything but perspective cameras.
    """
    cameras = list(camera_info) if isinstance(camera_info, (list, tuple)) else [camera_info]
    if not cameras:
        raise ValueError("connect at least one camera to camera_info, or none at all: the connected list is empty")
    return [_to_scaffold_camera(camera, fov_y_deg) for camera in cameras]


def _to_scaffold_camera(camera_info: Any, fov_y_deg: float) -> ScaffoldCamera:
    if not isinstance(camera_info, dict):
        raise ValueError(
            "connect camera_info of Load 3D, Preview 3D or Create Camera Info: a camera is a dict with position and "
            f"target, and a value of type {type(camera_info).__name__} is connected"
        )
    if str(camera_info.get("cameraType", "perspective")).lower().startswith("ortho"):
        raise ValueError("switch the camera to perspective in the 3D viewer: the connected camera is orthographic")
    try:
        fov_y_deg = float(camera_info.get("fov") or fov_y_deg)
        zoom = float(camera_info.get("zoom") or 1.0)
        position = _numbers(camera_info["position"], "xyz")
        quaternion = camera_info.get("quaternion")
        # The rotation where the dict has one, else the point that the camera looks at.
        aim = _numbers(camera_info["target"], "xyz") if quaternion is None else _numbers(quaternion, "xyzw")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            "connect camera_info of Load 3D, Preview 3D or Create Camera Info: the connected camera cannot be read "
            f"({type(error).__name__}: {error})"
        ) from error
    if not (0 < fov_y_deg < 180 and 0 < zoom < math.inf):
        raise ValueError(
            f"set field of view and zoom again in the 3D viewer: those of the connected camera are {fov_y_deg} degrees "
            f"and {zoom}"
        )
    fov_y_deg = math.degrees(2 * math.atan(math.tan(math.radians(fov_y_deg) / 2) / zoom))
    make = ScaffoldCamera.look_at if quaternion is None else ScaffoldCamera.from_quaternion
    return make(position, aim, fov_y_deg)


def _numbers(values: dict[str, Any], names: str) -> list[float]:
    return [float(values[name]) for name in names]
