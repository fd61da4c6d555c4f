"""What the numbers in a depth file mean: their unit, their camera, and where there is no surface.

The file's own statements come first. The caller gives what the file does not state. A contradiction between the two is
an error, never a guess. `assumptions.py` tells the user what neither of them stated. These values mean no surface:
infinity, NaN, 0, 1e9 or more (the far plane of renderers), and in half-float channels the largest half, 65504. Negative
values are an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..depth.lens import AXIS, stated_fov_y

AUTO = "auto"
METRES, CENTIMETRES, MILLIMETRES = "metres", "centimetres", "millimetres"
METRES_PER_UNIT = {
    METRES: 1.0,
    CENTIMETRES: 0.01,
    MILLIMETRES: 0.001,
    "kilometres": 1000.0,
    "inches": 0.0254,
    "feet": 0.3048,
    "1/256 m (KITTI)": 1 / 256,
    "1/5000 m (TUM)": 1 / 5000,
}
# Two factors that differ by less are the same unit.
FACTOR_TOLERANCE = 1e-3
# Two fields of view that differ by less are the same camera. At 50 degrees this is 1% of all sideways metres.
FOV_TOLERANCE_DEG = 0.5
FAR_PLANE = 1e9
LARGEST_HALF = 65504.0
# How far pixels may differ from squares, and the principal point from the centre, as a share.
CAMERA_TOLERANCE = 0.05
OTHER_WAY = "connect the picture through Load Image to Image to Metric Depth instead"


@dataclass(frozen=True)
class Statements:
    """What the caller states about a file. Raises ValueError for a factor that is negative or beside a unit."""

    # "auto" or a key of METRES_PER_UNIT. "auto": what the file states, else by the rules of `unit_of`.
    unit: str = AUTO
    # Metres in one unit of the numbers. 0: those of `unit`.
    metres_per_unit: float = 0.0
    # The camera's vertical field of view. 0: the file must have a camera.
    fov_y_deg: float = 0.0
    # Its focal length instead, in mm of full frame and in pixels. 0: none.
    focal_length_mm: float = 0.0
    focal_length_px: float = 0.0
    # One of lens.DISTANCES: what the numbers measure.
    distance: str = AXIS
    # The EXR layer or channel to read. "": the depth channel.
    layer: str = ""

    def __post_init__(self) -> None:
        if self.metres_per_unit < 0:
            raise ValueError(f"set metres_per_unit to 0 (off) or more, because it is {self.metres_per_unit:g}")
        if self.metres_per_unit > 0 and self.unit != AUTO:
            raise ValueError(
                f"set unit to {AUTO}, or metres_per_unit to 0, because both are set, to {self.unit} and "
                f"{self.metres_per_unit:g}"
            )

    def fov_y(self, height: int, width: int) -> float:
        """Vertical degrees of a picture of this size, 0 if not stated. ValueError for two focal lengths."""
        return stated_fov_y(self.fov_y_deg, self.focal_length_mm, self.focal_length_px, height, width)


NOTHING_STATED = Statements()


@dataclass(frozen=True)
class StoredDepth:
    """The numbers of a file and what it states about them. Raises ValueError for a wrong shape and negative values."""

    # (B, H, W), in the file's unit and type.
    values: np.ndarray
    # (B, H, W).
    confidence: np.ndarray | None = None
    # A key of METRES_PER_UNIT. None: not stated.
    unit: str | None = None
    # The program that wrote the file always uses this unit, but the file does not say so.
    unit_of_program: tuple[str, str] | None = None
    # (1,) or (B,).
    fov_y_deg: np.ndarray | None = None
    # (3, 3) or (B, 3, 3), in pixels or normalised.
    intrinsics: np.ndarray | None = None
    # (B, H, W) bool, from the values.
    surface: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        values = self.values
        if values.ndim != 3 or 0 in values.shape:
            raise ValueError(
                f"save (height, width) or (batch, height, width), because its array has the shape {values.shape}"
            )
        limit = LARGEST_HALF if values.dtype == np.float16 else FAR_PLANE
        if (values < 0).any():
            _, row, column = (int(index[0]) for index in np.nonzero(values < 0))
            raise ValueError(
                f"save it with the other sign, because {int((values < 0).sum())} of its values are negative, the first "
                f"at row {row}, column {column}"
            )
        object.__setattr__(self, "surface", np.isfinite(values) & (values != 0) & (values < limit))


def metres_per_unit_of(stored: StoredDepth, stated: Statements) -> float:
    """Metres in one unit of the numbers: by the file's unit, the stated one, or the rules of "auto". ValueError."""
    if stated.metres_per_unit == 0:
        return METRES_PER_UNIT[unit_of(stored, stated.unit)]
    own = None if stored.unit is None else METRES_PER_UNIT[stored.unit]
    if own is not None and not abs(stated.metres_per_unit / own - 1) <= FACTOR_TOLERANCE:
        raise ValueError(
            f"set metres_per_unit to 0, because it states its unit, {stored.unit}, but metres_per_unit is "
            f"{stated.metres_per_unit:g}"
        )
    return stated.metres_per_unit if own is None else own


def unit_of(stored: StoredDepth, requested: str) -> str:
    """The unit of the numbers: the file's, the requested one, or by the rules of "auto". ValueError."""
    if stored.unit is not None:
        if requested not in (AUTO, stored.unit):
            raise ValueError(f"set unit to {AUTO}, because it states its unit, {stored.unit}, but unit is {requested}")
        return stored.unit
    if requested != AUTO:
        return requested
    if not stored.surface.any():
        raise ValueError("render it again, because it has no surface anywhere: all values are zero, infinite or NaN")
    highest = stored.values[stored.surface].max()
    is_integer = stored.values.dtype.kind in "iu"
    if is_integer:
        normalised = stored.values.dtype.itemsize == 1 or highest == np.iinfo(stored.values.dtype).max
    else:
        normalised = highest <= 1
    if normalised:
        raise ValueError(
            f"save the depth itself, set unit, or {OTHER_WAY}, because it does not look like metres: it states no unit "
            f"and its highest value is {highest:g}, as in a normalised depth (a Mist pass, a Normalize node, a depth "
            "preprocessor)"
        )
    if stored.unit_of_program is not None:
        return stored.unit_of_program[1]
    return MILLIMETRES if is_integer else METRES


def field_of_view_of(stored: StoredDepth, requested: float) -> np.ndarray:
    """(1,) or (B,) degrees: of the file's camera, or `requested` for a file without one (0: none). ValueError."""
    batch, height, width = stored.values.shape
    stated = stored.fov_y_deg
    if stored.intrinsics is not None:
        computed = _fovs_of_intrinsics(stored.intrinsics, batch, height, width)
        if stated is not None and 1 not in (stated.size, computed.size) and stated.size != computed.size:
            raise ValueError(f"save one field of view, or one each, because it has {stated.size} for {batch} images")
        if stated is not None and not (np.abs(stated - computed) <= FOV_TOLERANCE_DEG).all():
            raise ValueError(
                f"save it with one of them, because its field of view is {_listed(stated)} degrees, but its intrinsics "
                f"are those of {_listed(computed)}"
            )
        stated = computed if stated is None else stated
    if stated is None:
        if requested == 0:
            raise ValueError(
                "set fov_y_deg to the camera's vertical field of view in degrees (in Blender: the camera's Lens Unit "
                "as Field of View, Sensor Fit as Vertical), because it has no camera"
            )
        return np.array([requested])
    if requested != 0 and not (np.abs(stated - requested) <= FOV_TOLERANCE_DEG).all():
        raise ValueError(
            "set fov_y_deg to 0 to use the file's camera, because its vertical field of view is "
            f"{_listed(stated)} degrees, but fov_y_deg is {requested:.4g}"
        )
    if stated.shape not in ((1,), (batch,)):
        raise ValueError(f"save one field of view, or one each, because it has {stated.size} for {batch} images")
    return stated


def _listed(degrees: np.ndarray) -> str:
    return ", ".join(f"{value:.2f}" for value in degrees[:4])


def _fovs_of_intrinsics(matrices: np.ndarray, batch: int, height: int, width: int) -> np.ndarray:
    """(1,) or (batch,) degrees of one matrix (3, 3), or of one for each picture (batch, 3, 3)."""
    if matrices.ndim < 2 or matrices.shape[-2:] != (3, 3):
        raise ValueError(f"save a matrix (3, 3), or one each, because its intrinsics have the shape {matrices.shape}")
    listed = matrices.reshape(-1, 3, 3)
    if len(listed) not in (1, batch):
        raise ValueError(
            f"save intrinsics (3, 3), or one matrix for each picture, because it has {len(listed)} matrices for "
            f"{batch} images"
        )
    return np.array([_fov_of_intrinsics(matrix, height, width) for matrix in listed])


def _fov_of_intrinsics(matrix: np.ndarray, height: int, width: int) -> float:
    """The vertical field of view in degrees. matrix: in pixels, or normalised, with a principal point up to 1."""
    if not np.isfinite(matrix).all():
        raise ValueError("save its intrinsics again, because they have values that are NaN or infinite")
    normalised = 0 < matrix[0, 2] <= 1 and 0 < matrix[1, 2] <= 1
    size_x, size_y = (1.0, 1.0) if normalised else (float(width), float(height))
    focal_x, focal_y = float(matrix[0, 0]) / size_x, float(matrix[1, 1]) / size_y
    if focal_x <= 0 or focal_y <= 0:
        raise ValueError(
            "save its intrinsics again, because they have a focal length that is not positive: "
            f"{matrix[0, 0]:g}, {matrix[1, 1]:g}"
        )
    squareness = focal_x * width / (focal_y * height)
    off_x, off_y = float(matrix[0, 2]) / size_x - 0.5, float(matrix[1, 2]) / size_y - 0.5
    if abs(squareness - 1) > CAMERA_TOLERANCE or max(abs(off_x), abs(off_y)) > CAMERA_TOLERANCE:
        raise ValueError(
            "crop and resize the depth so that the camera looks through its centre, because its intrinsics have pixels "
            "that are not square or a principal point off the centre (a cropped picture?)"
        )
    return math.degrees(2 * math.atan(0.5 / focal_y))
