"""The host's camera dict (LOAD3D_CAMERA) -> the camera of a composed scene.

As the 3D viewer writes it: position and target {x, y, z} in scene units, y up, right-handed; zoom, which multiplies the
focal length; cameraType. Newer hosts add quaternion {x, y, z, w}, the camera's rotation in the world (without one it
looks along -z), and fov, the vertical field of view in degrees. One scene unit is one metre here, and the viewer's
floor is the ground: an object at (x_m, y_m, z_m) stands at the viewer's (x_m, y_m, -z_m).
"""

from __future__ import annotations

import math
from typing import Any

from ...sf_model.scaffold import ScaffoldCamera


def to_scaffold_camera(camera_info: dict[str, Any], fov_y_deg: float) -> ScaffoldCamera:
    """fov_y_deg: for hosts that do not tell theirs. ValueError, with the remedy, for what is no perspective camera."""
    if str(camera_info.get("cameraType", "perspective")).lower().startswith("ortho"):
        raise ValueError("the connected camera is orthographic; switch it to perspective in the 3D viewer")
    try:
        fov_y_deg = float(camera_info.get("fov") or fov_y_deg)
        zoom = float(camera_info.get("zoom") or 1.0)
        position = _numbers(camera_info["position"], "xyz")
        quaternion = camera_info.get("quaternion")
        turned = None if quaternion is None else _numbers(quaternion, "xyzw")
        target = None if turned is not None else _numbers(camera_info["target"], "xyz")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"the connected camera cannot be read ({type(error).__name__}: {error}); connect camera_info of Load 3D, "
            "Preview 3D or Create Camera Info"
        ) from error
    if not (0 < fov_y_deg < 180 and 0 < zoom < math.inf):
        raise ValueError(
            f"the connected camera has a field of view of {fov_y_deg} degrees and a zoom of {zoom}; set them again in "
            "the 3D viewer"
        )
    fov_y_deg = math.degrees(2 * math.atan(math.tan(math.radians(fov_y_deg) / 2) / zoom))
    if turned is not None:
        return ScaffoldCamera.from_quaternion(position, turned, fov_y_deg)
    return ScaffoldCamera.look_at(position, target, fov_y_deg)


def _numbers(values: dict[str, Any], names: str) -> list[float]:
    return [float(values[name]) for name in names]
