"""Depth files: written and read back, and foreign ones with every rule."""

from __future__ import annotations

import io
import json
import math
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image, PngImagePlugin

from sf_model.depth.metric_depth import MetricDepth
from sf_model.files.depth_files import load_depth
from sf_model.files.exr import write_exr
from sf_model.files.writing import exr_bytes, npz_bytes, png_bytes

FOV_DEG = 53.7
PLANE = np.linspace(2, 6, 12 * 20, dtype=np.float32).reshape(12, 20)


def sample(batch: int = 1, farthest_m: float = 60.0) -> MetricDepth:
    """Log-uniform depth with a sky in the upper rows, random confidence."""
    generator = torch.Generator().manual_seed(3)
    depth = 0.2 * (farthest_m / 0.2) ** torch.rand(batch, 33, 47, generator=generator)
    depth[:, :5] = torch.inf
    fov = torch.full((batch,), FOV_DEG)
    return MetricDepth(depth, torch.rand(batch, 33, 47, generator=generator), fov)


def png(values: np.ndarray, chunk: str | None = None) -> bytes:
    stream = io.BytesIO()
    text = PngImagePlugin.PngInfo()
    if chunk is not None:
        text.add_text("SpatialFusion", chunk)
    Image.fromarray(values).save(stream, "PNG", pnginfo=text)
    return stream.getvalue()


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def exr(folder: Path, channels: dict[str, np.ndarray], **header: Any) -> bytes:
    """By the reference library, as a renderer would."""
    path = folder / "render.exr"
    with OpenEXR.File({"type": OpenEXR.scanlineimage, **header}, dict(channels)) as file:
        file.write(str(path))
    return path.read_bytes()


def test_exr_comes_back_bit_by_bit() -> None:
    depth = sample(batch=2, farthest_m=1000.0)
    for index in range(2):
        back = load_depth(exr_bytes(depth, index), "a.exr")
        assert torch.equal(back.depth[0], depth.depth[index])
        assert torch.equal(back.confidence[0], depth.confidence[index])
        assert torch.equal(back.fov_y_deg[0], depth.fov_y_deg[index])


def test_exr_says_its_unit_and_camera_to_others(tmp_path: Path) -> None:
    path = tmp_path / "a.exr"
    path.write_bytes(exr_bytes(sample(), 0))
    with OpenEXR.File(str(path), separate_channels=True) as file:
        header = dict(file.header())
        assert np.isinf(file.channels()["Z"].pixels[:5]).all()
    focal_px = 0.5 * 33 / math.tan(math.radians(FOV_DEG / 2))
    expected = [[focal_px, 0, 23.5], [0, focal_px, 16.5], [0, 0, 1]]
    assert header["depthUnit"] == "metres"
    assert header["fovYDeg"] == pytest.approx(FOV_DEG, abs=1e-5)
    assert header["cameraIntrinsics"] == pytest.approx(np.array(expected), rel=1e-6)


def test_png_comes_back_within_half_a_millimetre() -> None:
    depth = sample(farthest_m=65.535)
    data = png_bytes(depth, 0)
    back = load_depth(data, "a.png")
    surface = depth.valid
    assert torch.equal(back.valid, surface)
    assert (back.depth - depth.depth)[surface].abs().max() <= 0.0005 + 4e-6  # the rounding of float32 at 65 m
    assert back.fov_y_deg.item() == pytest.approx(FOV_DEG, abs=1e-5)
    assert (back.confidence == 1).all()
    assert png_bytes(back, 0) == data  # nothing more is lost the next time
    with Image.open(io.BytesIO(data)) as picture:
        values = np.asarray(picture)
        assert picture.mode == "I;16"
        assert json.loads(picture.text["SpatialFusion"])["unit"] == "millimetres"
    assert (values[:5] == 0).all()
    assert values[20, 30] == round(depth.depth[0, 20, 30].item() * 1000)


def test_png_refuses_what_it_cannot_hold_and_keeps_what_is_very_near() -> None:
    edge = torch.tensor([[[65.535, 1e-5, torch.inf]]])
    depth = MetricDepth(edge, torch.ones_like(edge), torch.tensor([50.0]))
    back = load_depth(png_bytes(depth, 0), "a.png").depth
    torch.testing.assert_close(back, torch.tensor([[[65.535, 0.001, torch.inf]]]))
    with pytest.raises(
        ValueError, match="save it as EXR.*reaches 65.5 m, but .* ends at 65.535 m. Nothing was written"
    ):
        png_bytes(MetricDepth(edge + 0.001, depth.confidence, depth.fov_y_deg), 0)


def test_npz_of_save_metric_depth_comes_back() -> None:
    depth = sample(batch=2)
    with np.load(io.BytesIO(npz_bytes(depth, 1)), allow_pickle=False) as arrays:
        shapes = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    assert shapes == {
        "depth_m": ((33, 47), np.float32),
        "confidence": ((33, 47), np.float32),
        "fov_y_deg": ((), np.float32),
    }
    back = load_depth(npz_bytes(depth, 1), "a.npz")
    assert torch.equal(back.depth, depth[1:].depth)
    assert torch.equal(back.confidence, depth[1:].confidence)
    assert torch.equal(back.fov_y_deg, depth[1:].fov_y_deg)


@pytest.mark.parametrize(
    "names",
    [
        ["Z", "R", "G", "B"],
        ["ViewLayer.Depth.Z", "ViewLayer.Normal.Z", "ViewLayer.Combined.R", "Composite.Combined.B"],
        ["Depth.V", "Image.R", "Image.G", "Image.B"],
        ["depth.Z", "A"],
        ["Depth"],
        ["Y"],
        ["V"],
        ["R"],
    ],
)
def test_the_depth_channel_of_renderers_is_found(tmp_path: Path, names: list[str]) -> None:
    channels = {name: np.full_like(PLANE, 0.3) for name in names} | {names[0]: PLANE}
    depth = load_depth(exr(tmp_path, channels), "a.exr", fov_y_deg=40)
    assert torch.equal(depth.depth[0], torch.from_numpy(PLANE))


def test_a_depth_in_all_colours_is_read_and_a_colour_picture_is_not(tmp_path: Path) -> None:
    grey = exr(tmp_path, {"RGB": np.stack([PLANE] * 3, axis=-1)})
    assert torch.equal(load_depth(grey, "a.exr", fov_y_deg=40).depth[0], torch.from_numpy(PLANE))
    with pytest.raises(ValueError, match="^a.exr: switch on the Z pass.*it is a colour picture"):
        load_depth(exr(tmp_path, {"RGB": np.stack([PLANE, PLANE, PLANE + 1], axis=-1)}), "a.exr", fov_y_deg=40)


def test_no_surface_in_every_way_that_files_say_it(tmp_path: Path) -> None:
    values = np.full((1, 7), 3.0, np.float32)
    values[0, :5] = np.inf, np.nan, 0.0, 1e10, 65504.0
    expected = torch.tensor([[[math.inf] * 4 + [65504.0, 3.0, 3.0]]])
    assert torch.equal(load_depth(exr(tmp_path, {"Z": values}), "a.exr", fov_y_deg=40).depth, expected)
    assert torch.equal(load_depth(npy(values), "a.npy", fov_y_deg=40).depth, expected)
    half = values.copy()
    half[0, 3] = 65504  # what writers make of 1e10
    in_half = load_depth(exr(tmp_path, {"Z": half.astype(np.float16)}), "a.exr", fov_y_deg=40).depth
    assert torch.equal(in_half, torch.tensor([[[math.inf] * 5 + [3.0, 3.0]]]))
    whole = np.array([[0, 1500, 65534]], dtype=np.uint16)
    for data, name in ((png(whole), "a.png"), (npy(whole), "a.npy")):
        depth = load_depth(data, name, fov_y_deg=40).depth
        torch.testing.assert_close(depth, torch.tensor([[[math.inf, 1.5, 65.534]]]))


def test_a_render_region_has_no_surface_outside(tmp_path: Path) -> None:
    window = (np.array([3, 2], np.int32), np.array([22, 13], np.int32))
    display = (np.array([0, 0], np.int32), np.array([19, 15], np.int32))
    depth = load_depth(exr(tmp_path, {"Z": PLANE}, dataWindow=window, displayWindow=display), "a.exr", fov_y_deg=40)
    expected = np.full((16, 20), np.inf, np.float32)
    expected[2:14, 3:] = PLANE[:, :17]
    assert torch.equal(depth.depth[0], torch.from_numpy(expected))


@pytest.mark.parametrize("unit, scale", [("auto", 1), ("metres", 1), ("centimetres", 0.01), ("millimetres", 0.001)])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_units_and_number_types(unit: str, scale: float, dtype: str) -> None:
    depth = load_depth(npy(np.asfortranarray(PLANE).astype(dtype)), "a.npy", unit, 40.0)
    tolerance = 1e-3 if dtype == "<f2" else 1e-6
    torch.testing.assert_close(depth.depth[0], torch.from_numpy(PLANE) * scale, rtol=tolerance, atol=0)


def test_shapes_of_arrays() -> None:
    assert load_depth(npy(np.stack([PLANE] * 3)), "a.npy", fov_y_deg=40).depth.shape == (3, 12, 20)
    assert load_depth(npy(PLANE[..., None]), "a.npy", fov_y_deg=40).depth.shape == (1, 12, 20)
    assert load_depth(npz(arr_0=PLANE), "a.npz", fov_y_deg=40).depth.shape == (1, 12, 20)
    two = load_depth(npz(depth_m=np.stack([PLANE] * 2), fov_y_deg=np.array([30.0, 40.0])), "a.npz")
    assert two.fov_y_deg.tolist() == [30, 40]


def test_normalised_depth_is_refused_unless_it_is_given_a_unit(tmp_path: Path) -> None:
    normalised = (PLANE / PLANE.max()).astype(np.float32)
    message = "Image to Metric Depth instead.*does not look like metres: it states no unit and its highest value is 1,"
    for data, name in ((exr(tmp_path, {"Z": normalised}), "a.exr"), (npy(normalised), "a.npy")):
        with pytest.raises(ValueError, match=message):
            load_depth(data, name, fov_y_deg=40)
        assert torch.equal(load_depth(data, name, "metres", 40).depth[0], torch.from_numpy(normalised))
    stretched = (65535 * normalised).astype(np.uint16)
    for data, name in ((png(stretched), "a.png"), (npy(PLANE.astype(np.uint8)), "a.npy")):
        with pytest.raises(ValueError, match="does not look like metres"):
            load_depth(data, name, fov_y_deg=40)
    assert load_depth(png(stretched), "a.png", "millimetres", 40).depth.max() == pytest.approx(65.535)


def test_intrinsics_of_arrays() -> None:
    """fy = 10 pixels at a height of 12: tan(fov / 2) = 0.6."""
    expected = 2 * math.degrees(math.atan(0.6))
    in_pixels = np.array([[10, 0, 10], [0, 10, 6], [0, 0, 1.0]])
    normalised = np.array([[10 / 20, 0, 0.5], [0, 10 / 12, 0.5], [0, 0, 1]], dtype=np.float32)[None]
    for arrays in ({"K": in_pixels}, {"intrinsics": normalised}, {"K": in_pixels, "fov_y_deg": np.array(expected)}):
        assert load_depth(npz(depth=PLANE, **arrays), "a.npz").fov_y_deg.item() == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="its field of view is 55.00 degrees, but its intrinsics are those of 61.93"):
        load_depth(npz(depth=PLANE, K=in_pixels, fov_y_deg=np.array(55.0)), "a.npz")
    shifted = in_pixels + [[0, 0, 5], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="crop and resize.*principal point off the centre"):
        load_depth(npz(depth=PLANE, K=shifted), "a.npz")
    with pytest.raises(ValueError, match="pixels that are not square"):
        load_depth(npz(depth=PLANE, K=in_pixels * [[2], [1], [1]]), "a.npz")


def test_the_files_camera_wins_and_contradictions_are_errors() -> None:
    data = exr_bytes(sample(), 0)
    assert load_depth(data, "a.exr", fov_y_deg=FOV_DEG + 0.4).fov_y_deg.item() == pytest.approx(FOV_DEG, abs=1e-5)
    with pytest.raises(ValueError, match="set fov_y_deg to 0.*is 53.70 degrees, but fov_y_deg is 55"):
        load_depth(data, "a.exr", fov_y_deg=55)
    with pytest.raises(ValueError, match="set unit to auto.*states its unit, metres, but unit is millimetres"):
        load_depth(data, "a.exr", "millimetres")
    with pytest.raises(ValueError, match="set fov_y_deg to the camera's vertical field of view.*it has no camera"):
        load_depth(npy(PLANE), "a.npy")


NEGATIVE = PLANE * np.where(np.arange(20) == 7, -1, 1).astype(np.float32)
K_WRONG = np.zeros((3, 3))
BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "negative": ("a.npy", npy(NEGATIVE), "other sign.*12 of its values are negative, the first at row 0, column 7"),
    "all zero": ("a.npy", npy(np.zeros((4, 4))), "render it again.*no surface anywhere"),
    "all infinite": ("a.npy", npy(np.full((4, 4), np.inf)), "no surface anywhere"),
    "pickle": ("a.npy", npy(np.array([{}], dtype=object)), "real numbers.*object values"),
    "complex": ("a.npy", npy(PLANE.astype(complex)), "real numbers.*complex128 values"),
    "line": ("a.npy", npy(PLANE[0]), "shape"),
    "empty": ("a.npy", npy(np.zeros((0, 4))), "shape"),
    "no bytes": ("a.npy", b"", "not a complete NPY"),
    "cut npy": ("a.npy", npy(PLANE)[:-1], "truncated"),
    "huge npy": ("a.npy", npy(PLANE).replace(b"(12, 20)", b"(9999999, 9999999)"), "more than|not a complete"),
    "cut npz": ("a.npz", npz(depth=PLANE)[:-30], "not a complete NPZ"),
    "no depth": ("a.npz", npz(a=PLANE, b=PLANE), "save the depth as depth_m or depth, because it has no array"),
    "only a camera": ("a.npz", npz(K=K_WRONG), "save the depth as depth_m or depth"),
    "confidence size": ("a.npz", npz(depth_m=PLANE, confidence=PLANE[1:]), "differ in shape"),
    "confidence range": ("a.npz", npz(depth_m=PLANE, confidence=PLANE), "save its confidence as numbers from 0 to 1"),
    "intrinsics": ("a.npz", npz(depth=PLANE, K=K_WRONG), "focal length that is not positive"),
    "fields of view": ("a.npz", npz(depth=PLANE, fov_y_deg=np.ones(5)), "5 for 1 images"),
    "impossible view": ("a.npz", npz(depth=PLANE, fov_y_deg=np.array(np.nan)), "between 0 and 180"),
    "8-bit png": ("a.png", png((PLANE * 40).astype(np.uint8)), "Image to Metric Depth.*not a grey PNG of 16 bits"),
    "colour png": ("a.png", png(np.zeros((4, 4, 3), np.uint8)), "a picture .RGB., not a grey PNG"),
    "cut png": ("a.png", png((PLANE * 1000).astype(np.uint16))[:-60], "not a complete PNG"),
    "png chunk": ("a.png", png((PLANE * 1000).astype(np.uint16), "{"), "text chunk SpatialFusion, which is damaged"),
    "png unit": (
        "a.png",
        png((PLANE * 1000).astype(np.uint16), '{"unit": []}'),
        "text chunk SpatialFusion, which is damaged",
    ),
    "not an exr": ("a.exr", b"PK\3\4 and so on", "not an OpenEXR file"),
    "two layers": (
        "a.exr",
        write_exr({"A.Depth.Z": PLANE, "B.Depth.Z": PLANE}, {}),
        "set layer to the depth to read, because it has more than one: A.Depth.Z, B.Depth.Z",
    ),
    "no channel": ("a.exr", write_exr({"Normal.X": PLANE}, {}), "save one depth pass.*no depth channel among Normal.X"),
    "exr unit": ("a.exr", write_exr({"Z": PLANE}, {"depthUnit": "miles"}), "depthUnit to one of .*it is 'miles'"),
    "other kind": ("a.jpg", b"", "save the depth as one of .exr, .png, .npy, .npz, .tif, .tiff, .pfm"),
    "a layer of no EXR": ("a.tiff", b"", "not a complete one"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_errors_that_name_the_file(case: str) -> None:
    name, data, message = BAD_FILES[case]
    with pytest.raises(ValueError, match=message) as caught:
        load_depth(data, name, fov_y_deg=0 if "fov_y_deg" in data.decode("latin-1") or "K.npy" in str(data) else 40)
    assert str(caught.value).startswith(f"{name}: ")


def test_a_constant_depth_is_a_wall() -> None:
    assert (load_depth(npy(np.full((4, 4), 3.0)), "a.npy", fov_y_deg=40).depth == 3).all()


@pytest.mark.parametrize("kind", ["png", "npy", "npz"])
def test_damaged_bytes_are_value_errors_or_another_depth(kind: str) -> None:
    """EXR's own are in test_exr.py."""
    data = {
        "png": png_bytes(sample(), 0),
        "npy": npy(PLANE),
        "npz": npz(depth_m=PLANE, fov_y_deg=np.array(50.0)),
    }[kind]
    random = np.random.default_rng(1)
    failed = 0
    for turn in range(600):
        damaged = bytearray(data if turn % 3 else data[: random.integers(0, len(data))])
        for position in random.integers(0, max(1, len(damaged)), 3) if damaged else []:
            damaged[position] = random.integers(0, 256)
        try:
            load_depth(bytes(damaged), f"a.{kind}")
        except ValueError:
            failed += 1
    assert failed > 200


BOMB_BYTES = 2**26


def zipped(kind: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def header_of(*shape: int) -> bytes:
    """The beginning of a float32 .npy file of this shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


BOMBS = {
    "after the array": (dict(depth=npy(np.zeros((4, 4))) + bytes(BOMB_BYTES)), "no surface"),
    "a depth beyond all pictures": (dict(depth=header_of(2**14, 2**13) + bytes(BOMB_BYTES)), "more than 67108864 pix"),
    "more than MAX_ELEMENTS": (dict(depth=header_of(2**20, 2**20) + bytes(BOMB_BYTES)), "more than 268435456 values"),
    "a confidence beyond the depth": (
        dict(depth=npy(PLANE), confidence=header_of(2**12, 2**12) + bytes(BOMB_BYTES)),
        r"save one value a pixel.*confidence \(4096, 4096\) and depth \(12, 20\) differ in shape",
    ),
    "a camera of millions": (
        dict(depth=npy(PLANE), K=header_of(2**22, 4) + bytes(BOMB_BYTES)),
        r"save one camera.*its K has the shape \(4194304, 4\)",
    ),
    "another compression": (
        dict(kind=zipfile.ZIP_BZIP2, depth=npy(PLANE) + bytes(BOMB_BYTES)),
        "save it with numpy.savez or numpy.savez_compressed",
    ),
    "an array that is not needed": (dict(depth=npy(0 * PLANE), other=bytes(BOMB_BYTES)), "no surface"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_zip_bomb_is_not_unpacked(case: str) -> None:
    members, message = BOMBS[case]
    data = zipped(**members)
    assert len(data) < BOMB_BYTES // 500
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            load_depth(data, "a.npz", fov_y_deg=40)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < BOMB_BYTES // 8
