"""EXR files of other programs: several parts, tiles and every compression, against the reference library."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pytest

from sf_model.files.exr import read_channels
from sf_model.files.exr_depth import read_exr_depth
from sf_model.files.exr_parts import read_parts
from tests.unit.test_exr import noise, plane, reference_file, same_bits

COMPRESSIONS = ("NO", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
PLANE = np.linspace(2, 6, 70 * 90, dtype=np.float32).reshape(70, 90)


def tiles() -> dict[str, Any]:
    description = OpenEXR.TileDescription()
    description.xSize, description.ySize = 32, 16
    return {"type": OpenEXR.tiledimage, "tiles": description}


def by_reference(folder: Path, data: bytes, part: int, name: str) -> np.ndarray:
    path = folder / "again.exr"
    path.write_bytes(data)
    with OpenEXR.File(str(path), separate_channels=True) as file:
        return np.array(file.parts[part].channels[name].pixels)


@pytest.mark.parametrize("tiled", [False, True], ids=["lines", "tiles"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_compression_is_what_the_reference_reads(
    tmp_path: Path, compression: str, dtype: type, tiled: bool
) -> None:
    """Lossy ones lose the same. The depth stands between channels of other types and names that FFmpeg knows."""
    values = noise((70, 90), dtype)
    values[0, :4] = np.inf
    channels = {
        "A": plane((70, 90), np.float16),
        "Beauty.Depth.Z": values,
        "R": noise((70, 90), np.float16),
        "id": None,
    }
    channels["id"] = plane((70, 90), np.uint32)
    if compression.startswith(("B44", "DWA")):
        del channels["id"]
    options = {"compression": getattr(OpenEXR, f"{compression}_COMPRESSION")} | (tiles() if tiled else {})
    data = reference_file(tmp_path, channels, **options)
    (part,) = read_parts(data)
    found = read_channels(data, part, ["Beauty.Depth.Z"])["Beauty.Depth.Z"]
    expected = by_reference(tmp_path, data, 0, "Beauty.Depth.Z")
    assert same_bits(found, expected)


@pytest.mark.parametrize("compression", ["ZIP", "PIZ"])
def test_parts_with_windows_of_their_own(tmp_path: Path, compression: str) -> None:
    """As Nuke and Blender write layers: each in a part. One of them is tiled."""
    path = tmp_path / "parts.exr"
    header = {"compression": getattr(OpenEXR, f"{compression}_COMPRESSION"), "type": OpenEXR.scanlineimage}
    window = (np.array([-5, 3], np.int32), np.array([84, 72], np.int32))
    display = (np.array([0, 0], np.int32), np.array([89, 69], np.int32))
    parts = [
        OpenEXR.Part(header | {"displayWindow": display}, {"RGB": np.stack([PLANE] * 3, -1) * 0.1}, "rgba"),
        OpenEXR.Part(header | {"dataWindow": window, "displayWindow": display}, {"Z": PLANE}, "depth"),
        OpenEXR.Part(header | tiles(), {"N.X": PLANE, "N.Y": PLANE}, "normals"),
    ]
    with OpenEXR.File(parts) as file:
        file.write(str(path))
    data = path.read_bytes()
    assert [(part.name, part.kind) for part in read_parts(data)] == [
        ("rgba", "scanline"),
        ("depth", "scanline"),
        ("normals", "tiled"),
    ]
    expected = np.full((1, 70, 90), np.inf, np.float32)
    expected[0, 3:, :85] = PLANE[:67, 5:]
    for layer in ("", "depth", "Depth.Z", "z"):
        assert np.array_equal(read_exr_depth(data, layer).values, expected), layer
    assert np.array_equal(read_exr_depth(data, "normals.N.Y").values[0], PLANE)
    with pytest.raises(ValueError, match="set layer to one of these, because it has no 'fog': rgba.B, .* normals.N.Y"):
        read_exr_depth(data, "fog")


# As programs name a depth among other channels.
LAYERS = {
    "Blender": "ViewLayer.Depth.Z",
    "older Blender": "View Layer.Depth.V",
    "Nuke": "depth.Z",
    "V-Ray": "VRayZDepth.R",
    "Unreal": "FinalImageMovieRenderQueue_WorldDepth.R",
    "Unreal's scene depth": "SceneDepth.R",
    "Houdini": "Pz",
    "Arnold": "Z",
    "Redshift": "Z.Z",
    "RenderMan": "z",
    "in words": "Z Depth.Y",
}


@pytest.mark.parametrize("name", LAYERS.values(), ids=LAYERS)
def test_depth_channels_as_programs_name_them(tmp_path: Path, name: str) -> None:
    others = {f"Combined.{color}": PLANE * 0.1 for color in "RGBA"} | {"Normal.Z": PLANE * 0.2, "Alpha.V": PLANE * 0.3}
    data = reference_file(tmp_path, others | {name: PLANE})
    assert np.array_equal(read_exr_depth(data).values[0], PLANE)


def test_a_choice_of_the_layer(tmp_path: Path) -> None:
    channels = {"near.Depth.Z": PLANE, "far.Depth.Z": PLANE * 2, "far.Combined.R": PLANE * 3, "fog": PLANE * 4}
    data = reference_file(tmp_path, channels)
    with pytest.raises(ValueError, match="set layer to the depth to read, because it has more than one: far.Depth.Z"):
        read_exr_depth(data)
    chosen = {"far": 2, "near": 1, "FAR.depth": 2, "far.Combined.R": 3, " fog ": 4, "near.Depth.Z": 1}
    for layer, factor in chosen.items():
        assert np.array_equal(read_exr_depth(data, layer).values[0], PLANE * factor), layer


def without(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """As in an environment that has not these libraries."""
    original = builtins.__import__

    def importing(name: str, *arguments: Any, **options: Any) -> Any:
        if name.split(".")[0] in missing:
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", importing)


def test_what_no_library_reads_names_what_to_do_in_each_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dwa = reference_file(tmp_path, {"Z": PLANE}, compression=OpenEXR.DWAA_COMPRESSION)
    piz = reference_file(tmp_path, {"Z": PLANE}, compression=OpenEXR.PIZ_COMPRESSION)
    without(monkeypatch, "OpenEXR")
    assert np.array_equal(read_exr_depth(piz).values[0], PLANE)
    with pytest.raises(ValueError, match="ZIP compression.*Blender.*Nuke.*Houdini.*Unreal.*compression DWAA"):
        read_exr_depth(dwa)
    without(monkeypatch, "OpenEXR", "av")
    with pytest.raises(ValueError, match="ZIP compression.*Nuke.*compression PIZ needs PyAV"):
        read_exr_depth(piz)


@pytest.mark.parametrize("compression", ["PIZ", "PXR24", "B44", "ZIP"])
@pytest.mark.parametrize("tiled", [False, True], ids=["lines", "tiles"])
def test_damage_is_an_error_or_another_picture(tmp_path: Path, compression: str, tiled: bool) -> None:
    options = {"compression": getattr(OpenEXR, f"{compression}_COMPRESSION")} | (tiles() if tiled else {})
    data = reference_file(tmp_path, {"Z": plane((40, 50))}, **options)
    random = np.random.default_rng(1)
    for length in random.integers(0, len(data), 60):
        with pytest.raises(ValueError):
            read_exr_depth(data[:length])
    for _ in range(150):
        damaged = bytearray(data)
        for position in random.integers(0, len(data), 2):
            damaged[position] = random.integers(0, 256)
        try:
            read_exr_depth(bytes(damaged))
        except ValueError:
            continue


def test_deep_files_and_mipmaps_are_refused(tmp_path: Path) -> None:
    data = bytearray(reference_file(tmp_path, {"Z": PLANE}, **tiles()))
    position = data.index(b"tiledesc\0") + len(b"tiledesc\0") + 4 + 8
    data[position] = 1
    with pytest.raises(ValueError, match="a texture of several sizes"):
        read_exr_depth(bytes(data))
    data = bytearray(reference_file(tmp_path, {"Z": PLANE}))
    data[5] |= 0x08
    with pytest.raises(ValueError, match="deep EXR files are not read"):
        read_exr_depth(bytes(data))
