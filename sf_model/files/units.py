"""What the numbers in a depth file mean: their unit, their camera, and where there is no surface.

What a file says of itself wins; what it leaves open the caller says; and where the two contradict each other it is an
error, never a guess. No surface, in any file: infinite, NaN or zero values and those from 1e9 on (the far plane of
renderers), and in half-float channels the largest half, 65504. Negative values are an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

AUTO = "auto"
METRES, CENTIMETRES, MILLIMETRES = "metres", "centimetres", "millimetres"
METRES_PER_UNIT = {METRES: 1.0, CENTIMETRES: 0.01, MILLIMETRES: 0.001}
# Two fields of view that differ by less are the same camera; at a usual 50 degrees this is 1% of all sideways metres.
FOV_TOLERANCE_DEG = 0.5
FAR_PLANE = 1e9
LARGEST_HALF = 65504.0
# Pixels may be out of square, and the principal point out of the centre, by this part.
CAMERA_TOLERANCE = 0.05
OTHER_WAY = "connect the picture through Load Image to Image to Metric Depth instead"


@dataclass(frozen=True)
class StoredDepth:
    """A file's numbers, (B, H, W) as they are, and what it says of them.

    unit: a key of METRES_PER_UNIT or None. fov_y_deg: (1,) or (B,). intrinsics: (3, 3), in pixels or normalised.
    """

    values: np.ndarray
    confidence: np.ndarray | None = None
    unit: str | None = None
    fov_y_deg: np.ndarray | None = None
    intrinsics: np.ndarray | None = None
    surface: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        values = self.values
        if values.ndim != 3 or 0 in values.shape:
            raise ValueError(f"its array has the shape {values.shape}; (height, width) or (batch, height, width) fits")
        limit = LARGEST_HALF if values.dtype == np.float16 else FAR_PLANE
        if (values < 0).any():
            _, row, column = (int(index[0]) for index in np.nonzero(values < 0))
            raise ValueError(
                f"{int((values < 0).sum())} of its values are negative, the first at row {row}, column {column}; depth "
                "is in front of the camera: save it with the other sign"
            )
        object.__setattr__(self, "surface", np.isfinite(values) & (values != 0) & (values < limit))


def unit_of(stored: StoredDepth, requested: str) -> str:
    """What the numbers mean: as the file states, as requested, or by the rules of "auto"."""
    if stored.unit is not None:
        if requested not in (AUTO, stored.unit):
            raise ValueError(f"it states its unit, {stored.unit}, but unit is {requested}; set unit to {AUTO}")
        return stored.unit
    if requested != AUTO:
        return requested
    if not stored.surface.any():
        raise ValueError("it has no surface anywhere: all its values are zero, infinite or NaN; render it again")
    highest = stored.values[stored.surface].max()
    whole = stored.values.dtype.kind in "iu"
    if whole:
        normalised = stored.values.dtype.itemsize == 1 or highest == np.iinfo(stored.values.dtype).max
    else:
        normalised = highest <= 1
    if normalised:
        raise ValueError(
            f"it does not look like metres: it states no unit and its highest value is {highest:g}, as in a normalised "
            f"depth (a Mist pass, a Normalize node, a depth preprocessor). Save the depth itself; or set unit, if the "
            f"numbers do have one; or {OTHER_WAY}"
        )
    return MILLIMETRES if whole else METRES


def field_of_view_of(stored: StoredDepth, requested: float) -> np.ndarray:
    """(1,) or (B,) degrees: the file's camera, or what the caller says of a file that has none. ValueError."""
    batch, height, width = stored.values.shape
    stated = stored.fov_y_deg
    if stored.intrinsics is not None:
        computed = _fov_of_intrinsics(stored.intrinsics, height, width)
        if stated is not None and not (np.abs(stated - computed) <= FOV_TOLERANCE_DEG).all():
            raise ValueError(
                f"it contradicts itself: its field of view is {_shown(stated)} degrees, but its intrinsics are those "
                f"of {computed:.2f}; save it with one of them"
            )
        stated = np.array([computed]) if stated is None else stated
    if stated is None:
        if requested == 0:
            raise ValueError(
                "it has no camera; set fov_y_deg to the camera's vertical field of view in degrees (in Blender: the "
                "camera's Lens Unit as Field of View, Sensor Fit as Vertical)"
            )
        return np.array([requested])
    if requested != 0 and not (np.abs(stated - requested) <= FOV_TOLERANCE_DEG).all():
        raise ValueError(
            f"its vertical field of view is {_shown(stated)} degrees, but fov_y_deg is {requested:g}; set fov_y_deg "
            "to 0 to use the file's camera"
        )
    if stated.shape not in ((1,), (batch,)):
        raise ValueError(f"it has {stated.size} fields of view for {batch} images; save one, or one each")
    return stated


def _shown(degrees: np.ndarray) -> str:
    return ", ".join(f"{value:.2f}" for value in degrees[:4])


def _fov_of_intrinsics(matrix: np.ndarray, height: int, width: int) -> float:
    """The vertical field of view of a camera matrix in pixels, or normalised (its principal point is then below 1)."""
    if matrix.ndim == 3 and matrix.shape[0] == 1:
        matrix = matrix[0]
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise ValueError(f"its intrinsics have the shape {matrix.shape}; one finite matrix (3, 3) fits")
    normalised = 0 < matrix[0, 2] <= 1 and 0 < matrix[1, 2] <= 1
    size_x, size_y = (1.0, 1.0) if normalised else (float(width), float(height))
    focal_x, focal_y = float(matrix[0, 0]) / size_x, float(matrix[1, 1]) / size_y
    if focal_x <= 0 or focal_y <= 0:
        raise ValueError(f"its intrinsics have a focal length that is not positive: {matrix[0, 0]:g}, {matrix[1, 1]:g}")
    squareness = focal_x * width / (focal_y * height)
    off_x, off_y = float(matrix[0, 2]) / size_x - 0.5, float(matrix[1, 2]) / size_y - 0.5
    if abs(squareness - 1) > CAMERA_TOLERANCE or max(abs(off_x), abs(off_y)) > CAMERA_TOLERANCE:
        raise ValueError(
            "its intrinsics have pixels that are not square or a principal point off the centre (a cropped picture?); "
            "crop and resize the depth so that the camera looks through its centre"
        )
    return math.degrees(2 * math.atan(0.5 / focal_y))
