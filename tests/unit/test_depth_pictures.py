"""TIFF, PFM and numbered files: against Pillow, the format's description, and cases worked out by hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sf_model.files.depth_files import read_depth, read_sequence
from sf_model.files.sequences import frames_of
from sf_model.files.units import Statements
from sf_model.files.writing import exr_bytes, npz_bytes, png_bytes

PLANE = np.linspace(2, 6, 12 * 20, dtype=np.float32).reshape(12, 20)
STATED = Statements(fov_y_deg=40.0)


def tiff(*pages: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    first, *others = map(Image.fromarray, pages)
    first.save(stream, "TIFF", save_all=bool(others), append_images=others, **options)
    return stream.getvalue()


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_tiff_of_floats_and_of_16_bits(compression: str) -> None:
    loaded = read_depth(tiff(PLANE, compression=compression), "a.tiff", STATED)
    assert np.array_equal(loaded.depth.depth[0].numpy(), PLANE) and "in metres (assumed" in loaded.notice
    whole = (PLANE * 1000).astype(np.uint16)
    loaded = read_depth(tiff(whole, compression=compression), "a.TIF", STATED)
    np.testing.assert_allclose(loaded.depth.depth[0].numpy(), whole / 1000, rtol=1e-6)
    assert loaded.doubtful and "whole numbers without a unit" in loaded.notice


def test_tiff_of_several_pages_is_a_batch() -> None:
    depth = read_depth(tiff(PLANE, PLANE + 1), "a.tif", STATED).depth.depth.numpy()
    assert np.array_equal(depth, [PLANE, PLANE + 1])
    with pytest.raises(ValueError, match="a.tif: save one picture, or pages of one size"):
        read_depth(tiff(PLANE, PLANE[:5]), "a.tif", STATED)


def test_other_tiffs_are_refused() -> None:
    for data, message in (
        (tiff(np.zeros((4, 4, 3), np.uint8)), "Image to Metric Depth instead, .* a picture .RGB., not a grey TIFF"),
        (tiff((PLANE * 40).astype(np.uint8)), "a picture .L., not a grey TIFF"),
        (tiff(PLANE)[:200], "not a complete one that can be read"),
        (b"II*\0" + b"\0" * 40, "not a complete one"),
        (b"", "not a complete one"),
    ):
        with pytest.raises(ValueError, match=f"^a.tiff: .*{message}"):
            read_depth(data, "a.tiff", STATED)
    with pytest.raises(ValueError, match="leave layer empty, because only EXR files have layers"):
        read_depth(tiff(PLANE), "a.tiff", Statements(fov_y_deg=40.0, layer="Z"))


def pfm(values: np.ndarray, little: bool = True) -> bytes:
    """By the format's description (paulbourke.net/dataformats/pbm): lines from the bottom to the top."""
    kind = b"PF" if values.ndim == 3 else b"Pf"
    head = b"%s\n%d %d\n%s\n" % (kind, values.shape[1], values.shape[0], b"-1.0" if little else b"1.0")
    return head + values[::-1].astype("<f4" if little else ">f4").tobytes()


@pytest.mark.parametrize("little", [True, False])
def test_pfm(little: bool) -> None:
    for values in (PLANE, np.stack([PLANE] * 3, axis=-1)):
        loaded = read_depth(pfm(values, little), "a.pfm", STATED)
        assert np.array_equal(loaded.depth.depth[0].numpy(), PLANE)
    with pytest.raises(ValueError, match="a.pfm: save one number a pixel"):
        read_depth(pfm(np.stack([PLANE, PLANE, PLANE * 2], axis=-1), little), "a.pfm", STATED)


@pytest.mark.parametrize(
    "data, message",
    [
        (pfm(PLANE)[:-1], "truncated: 20x12 pixels need 960 bytes"),
        (b"P5\n2 2\n255\n", "not a PFM file"),
        (b"Pf\n0 5\n-1.0\n", "truncated"),
        (b"Pf\n2 2\n--\n" + bytes(16), "header is damaged"),
        (b"Pf\n99999 99999\n-1.0\n", "more than 67108864"),
        (b"", "not a PFM file"),
    ],
)
def test_damaged_pfm_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"a.pfm: .*{message}"):
        read_depth(data, "a.pfm", STATED)


def numbered(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).write_bytes(b"")
    return [folder / name for name in names]


def frames(path: Path, count: int) -> list[str]:
    return [file.name for file in frames_of(path, count, Path.is_file)]


def test_the_files_of_a_sequence(tmp_path: Path) -> None:
    names = [f"shot2_{number:04}.exr" for number in (8, 9, 10, 11, 13)]
    paths = numbered(tmp_path, *names, "shot2_0009.png", "shot3_0010.exr", "shot2_10.exr", "shot2_.exr")
    assert frames(paths[1], 0) == names[1:4]  # up to the gap
    assert frames(paths[0], 2) == names[:2]
    assert frames(paths[0], 1) == names[:1]
    with pytest.raises(ValueError, match="shot2_0009.exr: set frames to 3, or add the missing file, .* shot2_0012.exr"):
        frames(paths[1], 4)
    with pytest.raises(ValueError, match="its name has no number"):
        frames(numbered(tmp_path, "depth.exr")[0], 0)
    # As Save Metric Depth names its files, and without leading zeros.
    saved = [f"SpatialFusion_depth_{number:05}_mm.png" for number in (1, 2)]
    assert frames(numbered(tmp_path, *saved)[0], 0) == saved
    plain = [f"d9.{number}.npy" for number in (9, 10, 11)]
    assert frames(numbered(tmp_path, *plain)[0], 0) == plain


def test_a_sequence_is_one_batch_with_the_cameras_of_its_frames() -> None:
    first = read_depth(tiff(PLANE), "a.tif", Statements(fov_y_deg=30.0)).depth
    second = read_depth(tiff(PLANE + 1), "a.tif", Statements(fov_y_deg=50.0)).depth
    for make, suffix, tolerance in ((npz_bytes, "npz", 0), (exr_bytes, "exr", 0), (png_bytes, "png", 0.0006)):
        files = [
            (f"{n}.{suffix}", lambda depth=depth, make=make: make(depth, 0)) for n, depth in enumerate((first, second))
        ]
        loaded = read_sequence(files)
        np.testing.assert_allclose(loaded.depth.depth.numpy(), [PLANE, PLANE + 1], atol=tolerance)
        assert loaded.depth.fov_y_deg.tolist() == pytest.approx([30, 50], abs=1e-3)
        assert "2 pictures of 20x12 pixels" in loaded.notice and "30.0 to 50.0 degrees" in loaded.notice


def test_frames_that_do_not_fit_are_refused() -> None:
    def sequence(*contents: bytes, suffix: str = "tif") -> None:
        files = [(f"{number}.{suffix}", lambda content=content: content) for number, content in enumerate(contents)]
        read_sequence(files, STATED)

    with pytest.raises(ValueError, match="^1.tif: save all frames at one size, .* has 20x5 pixels and 0.tif 20x12"):
        sequence(tiff(PLANE), tiff(PLANE[:5]))
    with pytest.raises(ValueError, match="^1.tif: save all frames in one unit, .* uint16 in no stated unit and"):
        sequence(tiff(PLANE), tiff((PLANE * 1000).astype(np.uint16)))
    with pytest.raises(ValueError, match="^1.tif: save it again"):
        sequence(tiff(PLANE), b"")
    # A dark frame of a sequence is no normalised depth: the whole sequence is looked at.
    files = [(f"{number}.tif", lambda scale=scale: tiff(PLANE * scale)) for number, scale in enumerate((1, 0.1))]
    assert read_sequence(files, STATED).depth.depth.min() == pytest.approx(0.2)


def test_a_camera_in_some_frames_alone_is_refused() -> None:
    camera = np.array([[10, 0, 10], [0, 10, 6], [0, 0, 1.0]])

    def npz(**arrays: np.ndarray) -> bytes:
        stream = io.BytesIO()
        np.savez(stream, depth=PLANE, **arrays)
        return stream.getvalue()

    with pytest.raises(ValueError, match="^0.npz to 1.npz: save all frames with their camera, or none"):
        read_sequence([("0.npz", lambda: npz(K=camera)), ("1.npz", npz)], STATED)
    # One gives a matrix, the other degrees: 2 atan(6 / 10).
    frames = [("0.npz", lambda: npz(K=camera)), ("1.npz", lambda: npz(fov_y_deg=np.array(30.0)))]
    assert read_sequence(frames).depth.fov_y_deg.tolist() == pytest.approx([61.9275, 30], abs=1e-3)
