"""What a depth file does not say: units, rays, cameras and shapes, what is assumed, and when the user is warned."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image

from sf_model.depth.lens import RAY
from sf_model.depth.metric_depth import MetricDepth
from sf_model.files.depth_files import read_depth
from sf_model.files.exr import write_exr
from sf_model.files.units import Statements
from sf_model.files.writing import exr_bytes, npz_bytes, png_bytes

PLANE = np.linspace(2, 6, 12 * 20, dtype=np.float32).reshape(12, 20)


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(stream, "PNG")
    return stream.getvalue()


def read(data: bytes, name: str, **stated: Any) -> Any:
    return read_depth(data, name, Statements(**({"fov_y_deg": 40.0} | stated)))


def test_a_flat_wall_in_distances_along_the_ray_is_flat() -> None:
    """90 degrees, 4 m away: the corners are nearly 7 m along their rays. Taken as depth it would be a bowl."""
    wall = MetricDepth(torch.full((1, 24, 24), 4.0), torch.ones(1, 24, 24), torch.tensor([90.0]))
    distance = wall.points().norm(dim=-1)[0].numpy()
    flat = read(npy(distance), "a.npy", fov_y_deg=90.0, distance=RAY)
    torch.testing.assert_close(flat.depth.depth, wall.depth)
    assert "distances along the rays" in flat.notice
    bowl = read(npy(distance), "a.npy", fov_y_deg=90.0)
    assert bowl.depth.depth.max() > 6.5 and "depth along the optical axis" in bowl.notice


# KITTI: uint16 / 256 is metres, 0 is nothing. TUM: / 5000.
@pytest.mark.parametrize(
    "stated, metres",
    [
        ({"unit": "1/256 m (KITTI)"}, 20.0),
        ({"metres_per_unit": 1 / 256}, 20.0),
        ({"unit": "1/5000 m (TUM)"}, 1.024),
        ({"unit": "millimetres"}, 5.12),
        ({"unit": "inches"}, 130.048),
        ({"unit": "feet"}, 1560.576),
        ({"unit": "kilometres"}, 5.12e6),
    ],
)
def test_units_and_a_free_factor(stated: dict[str, Any], metres: float) -> None:
    loaded = read(png(np.array([[5120, 0], [256, 256]])), "a.png", **stated)
    assert loaded.depth.depth[0, 0, 0].item() == pytest.approx(metres, rel=1e-5)
    assert math.isinf(loaded.depth.depth[0, 0, 1])
    assert not loaded.doubtful and "as set" in loaded.notice


def test_factors_that_contradict_are_errors() -> None:
    with pytest.raises(ValueError, match="set unit to auto, or metres_per_unit to 0, because both are set"):
        Statements(unit="metres", metres_per_unit=0.01)
    with pytest.raises(ValueError, match="metres_per_unit to 0 .off. or more"):
        Statements(metres_per_unit=-1.0)
    saved = npz_bytes(read(npy(PLANE), "a.npy").depth, 0)
    with pytest.raises(ValueError, match="a.npz: set metres_per_unit to 0, because it states its unit, metres, but"):
        read(saved, "a.npz", metres_per_unit=0.01)
    assert read(saved, "a.npz", metres_per_unit=1.0).depth.depth.max() == 6


def relative(mean: float, highest: float) -> np.ndarray:
    values = np.random.default_rng(0).uniform(0.5, 1.5, (40, 40)).astype(np.float32)
    values[0, 0] = highest
    return values * (mean / values.mean(dtype=np.float64)).astype(np.float32)


# name: file, the words of the doubt (None: believed)
DOUBTS: dict[str, tuple[str, bytes, str | None]] = {
    "metres": ("a.npy", npy(PLANE), None),
    "metres with a sky": ("a.npy", npy(np.where(PLANE > 5, np.inf, PLANE * 8)), None),
    "relative, mean 1": ("a.npy", npy(relative(1.0, 3.0)), "may be relative depth, not metres: its mean is 1"),
    "relative, median 1": (
        "a.npy",
        npy(np.repeat(np.array([0.4, 0.99, 1.0, 1.01, 9.0], np.float32), 9)[None]),
        "may be relative depth, not metres: its median is 1",
    ),
    "all near": ("a.npy", npy(PLANE / 2), "may be relative depth, not metres: nothing is farther than 3.00"),
    "centimetres": ("a.exr", write_exr({"Z": PLANE * 100}, {}), "may be centimetres .Unreal Engine. or .* nearer than"),
    "far centimetres": ("a.npy", npy(PLANE**2 * 300), "farther than 10800 m is seldom"),
    "whole numbers": ("a.png", png(PLANE * 1000), "whole numbers .* millimetres, but some are in 1/256 m .KITTI."),
    "whole numbers of 32 bits": ("a.npy", npy((PLANE * 1000).astype(np.int32)), "taken as millimetres"),
}


@pytest.mark.parametrize("case", DOUBTS)
def test_doubtful_metres_are_said(case: str) -> None:
    name, data, doubt = DOUBTS[case]
    loaded = read(data, name)
    assert loaded.doubtful == (doubt is not None)
    if doubt is not None:
        assert re.search(doubt, loaded.notice), loaded.notice
        assert "set unit or metres_per_unit" in loaded.notice
    # Who states the unit is believed.
    assert not read(data, name, unit="centimetres").doubtful


def test_the_notice_states_size_unit_camera_and_range() -> None:
    values = PLANE.copy()
    values[:3] = np.inf
    # Of two middle values the lower one.
    assert read(npy(values), "a.npy").notice == (
        "1 picture of 20x12 pixels, in metres (assumed: the file states no unit), depth along the optical axis, "
        "vertical field of view 40.0 degrees. Surfaces from 3.00 to 6.00 m, median 4.49 m; no surface in 25%."
    )


def test_files_of_the_pack_are_believed() -> None:
    near = MetricDepth(torch.full((2, 4, 4), 1.0), torch.ones(2, 4, 4), torch.tensor([40.0, 40.0]))
    for make, name, unit in ((npz_bytes, "a.npz", "metres"), (exr_bytes, "a.exr", "metres"), (png_bytes, "a.png", "m")):
        loaded = read(make(near, 1), name, fov_y_deg=0.0)
        assert not loaded.doubtful and f"in {unit}" in loaded.notice and "as the file states" in loaded.notice


def test_unreal_engine_writes_centimetres(tmp_path: Path) -> None:
    path = tmp_path / "render.exr"
    header = {"type": OpenEXR.scanlineimage, "unreal/engineVersion": "5.4"}
    with OpenEXR.File(header, {"FinalImageWorldDepth.R": PLANE * 100} | {"Z": PLANE * 100}) as file:
        file.write(str(path))
    loaded = read(path.read_bytes(), "a.exr")
    np.testing.assert_allclose(loaded.depth.depth[0].numpy(), PLANE, rtol=1e-6)
    assert "in centimetres as Unreal Engine writes" in loaded.notice and not loaded.doubtful
    assert read(path.read_bytes(), "a.exr", unit="metres").depth.depth.max() == 600


def test_focal_lengths_are_fields_of_view() -> None:
    """12 rows, 20 columns; 36 mm are 20 pixels, and 12 rows are 21.6 mm."""
    expected = 2 * math.degrees(math.atan(10.8 / 50))
    by_mm = read(npy(PLANE), "a.npy", fov_y_deg=0.0, focal_length_mm=50.0)
    assert by_mm.depth.fov_y_deg.item() == pytest.approx(expected, abs=1e-4)
    by_px = read(npy(PLANE), "a.npy", fov_y_deg=0.0, focal_length_px=50 / 36 * 20)
    assert by_px.depth.fov_y_deg.item() == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="a.npy: set focal_length_mm or focal_length_px to 0"):
        read(npy(PLANE), "a.npy", focal_length_mm=50.0, focal_length_px=10.0)
    camera = np.array([[10, 0, 10], [0, 10, 6], [0, 0, 1.0]])
    with pytest.raises(ValueError, match="its vertical field of view is 61.93 degrees, but fov_y_deg is 24.38"):
        read(npz(depth=PLANE, K=camera), "a.npz", fov_y_deg=0.0, focal_length_mm=50.0)


def test_shapes_of_colours_and_points_are_no_pictures() -> None:
    grey = np.stack([PLANE] * 3, axis=-1)
    for values in (grey, grey[None], np.concatenate([grey, 0 * grey[..., :1]], axis=-1)):
        assert np.array_equal(read(npy(values), "a.npy").depth.depth[0].numpy(), PLANE)
    points = np.stack([PLANE, PLANE * 2, PLANE * 3], axis=-1)
    for values in (points, points[None], points[..., :2], np.full((64, 48, 3), 2.0) + np.arange(3)):
        with pytest.raises(ValueError, match="a.npy: save one number a pixel, .height, width., because its array"):
            read(npy(values), "a.npy")
    with pytest.raises(ValueError, match="because depth .12, 20, 3. has 3 different values"):
        read(npz(depth=points), "a.npz")


def test_axes_of_one_channel_are_dropped() -> None:
    pictures = np.stack([PLANE, PLANE + 1])
    for values in (pictures[:, None], pictures[..., None], pictures):
        assert np.array_equal(read(npy(values), "a.npy").depth.depth.numpy(), pictures)
    for values in (PLANE[None, None], PLANE[None, ..., None], PLANE[..., None], PLANE[None]):
        assert np.array_equal(read(npy(values), "a.npy").depth.depth.numpy(), PLANE[None])
    with_confidence = npz(depth=pictures[:, None], confidence=np.full((2, 1, 12, 20), 0.5))
    assert (read(with_confidence, "a.npz").depth.confidence == 0.5).all()


def test_every_picture_may_have_its_own_intrinsics() -> None:
    """fy of 10 and 20 pixels at a height of 12."""
    matrices = np.array([[[f, 0, 10], [0, f, 6], [0, 0, 1.0]] for f in (10, 20)])
    expected = [2 * math.degrees(math.atan(6 / f)) for f in (10, 20)]
    both = np.stack([PLANE, PLANE])
    for arrays in (
        {"intrinsics": matrices},
        {"K": matrices[None]},
        {"intrinsics": matrices, "fov_y_deg": np.array(expected)},
    ):
        loaded = read(npz(depth=both, **arrays), "a.npz", fov_y_deg=0.0)
        assert loaded.depth.fov_y_deg.tolist() == pytest.approx(expected, abs=1e-4)
    assert "field of view 33.4 to 61.9 degrees" in loaded.notice
    with pytest.raises(ValueError, match="one matrix for each picture, because it has 2 matrices for 1 images"):
        read(npz(depth=PLANE, intrinsics=matrices), "a.npz", fov_y_deg=0.0)
    with pytest.raises(ValueError, match="are those of 61.93, 33.40"):
        read(npz(depth=both, intrinsics=matrices, fov_y_deg=np.array(61.9)), "a.npz", fov_y_deg=0.0)
    with pytest.raises(ValueError, match="NaN or infinite"):
        read(npz(depth=PLANE, K=matrices[0] * np.nan), "a.npz", fov_y_deg=0.0)
