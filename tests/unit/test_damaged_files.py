"""A dozen damaged files of every kind that is read: a depth or a mesh comes out, or an error that begins with a remedy.

`python -m tests.by_hand.damaged_files` tries hundreds, and measures time and memory.
"""

from __future__ import annotations

import io
import random
import struct
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from sf_model.files.depth_files import SUFFIXES, read_depth
from sf_model.files.units import Statements
from sf_model.scaffold import read_mesh
from sf_model.scaffold.mesh_file import MESH_FORMATS
from tests.damage import PLANE, damaged, end_of, samples, saved, skinned_glb

SAMPLES = samples()
COUNT = 12
# Of a file of some thousand bytes. What damage makes of its size may be allowed, and is then read.
MOST_BYTES = 2**26


def test_every_format_is_among_them() -> None:
    assert {f".{name.rpartition('.')[2]}" for name in SAMPLES} == {*SUFFIXES, *(f".{kind}" for kind in MESH_FORMATS)}
    assert {end_of(data, name) for name, data in SAMPLES.items()} == {"read"}


@pytest.mark.parametrize("name", SAMPLES)
def test_damage_is_read_or_refused_with_a_remedy(name: str) -> None:
    ends = set()
    tracemalloc.start()
    try:
        for seed in range(COUNT):
            end = end_of(damaged(SAMPLES[name], random.Random(f"{name} {seed}")), name)
            assert end in ("read", "refused"), seed
            ends.add(end)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    assert "refused" in ends


def refusal(data: bytes, name: str) -> str:
    with pytest.raises(ValueError) as caught:
        if name.endswith("glb"):
            read_mesh(data, "glb")
        else:
            read_depth(data, name, Statements(fov_y_deg=40.0))
    return str(caught.value)


def test_an_archive_that_lost_bytes() -> None:
    """The zipfile module computes a place before the file's beginning, and has no error of its own for that."""
    data = SAMPLES["packed.npz"]
    assert refusal(data[:40] + data[90:], "a.npz").startswith("a.npz: save it again, because it is not a complete NPZ")


def test_a_confidence_that_is_none() -> None:
    for values, said in ((PLANE, "the lowest is 2, the highest 6"), (PLANE * np.nan, "1584 are NaN")):
        data = saved(np.savez, depth=PLANE, confidence=values)
        error = refusal(data, "a.npz")
        assert error.startswith("a.npz: save its confidence as numbers from 0 to 1, or leave it out") and said in error


def test_a_large_page_behind_a_small_one_is_not_decoded() -> None:
    """Pillow looks at the size of the first page only. These 64 MB are a file of some kilobytes."""
    stream, large = io.BytesIO(), Image.new("F", (4000, 4000), 3.0)
    Image.fromarray(PLANE).save(stream, "TIFF", save_all=True, append_images=[large], compression="tiff_adobe_deflate")
    tracemalloc.start()
    try:
        assert "save one picture, or pages of one size" in refusal(stream.getvalue(), "a.tif")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def with_json(change: bytes, by: bytes) -> bytes:
    """The skinned mesh with another text in its JSON, of the same length."""
    data = skinned_glb()
    assert data.count(change) == 1 and len(by) <= len(change)
    return data.replace(change, by.ljust(len(change)))


@pytest.mark.parametrize(
    "change, by",
    [
        (b'"scale": [1, 2, 1]', b'"scale": [1, 2]'),
        (b'"rotation": [0, 0, 0, 1]', b'"rotation": [0, 0, 1]'),
        (b'"rotation": [0, 0, 0, 1]', b'"rotation": "a turn"'),
        (b'"componentType": 5123, "count": 4', b'"componentType":5123, "count":"a"'),
        (b'"mode": 5', b'"mode":{}'),
    ],
)
def test_broken_values_of_a_gltf_file(change: bytes, by: bytes) -> None:
    """What NumPy and Python raise for them says nothing of a remedy."""
    assert refusal(with_json(change, by), "a.glb").startswith("export the glTF file again: it is damaged (")


def test_compressed_meshes_name_what_to_switch_off() -> None:
    """Data that meshopt compressed is not where the accessors look for it. Files need not say so at their top."""
    remedy = "export it without compression (in Blender: Compression off; with gltf-transform: no draco, no meshopt)"
    document = (
        b'{"nodes":[{"mesh":0}],"meshes":[{"primitives":[{"attributes":{"POSITION":0}%s}]}],"buffers":[{"byteLength":9}],'
        b'"accessors":[{"bufferView":0,"componentType":5126,"count":9,"type":"VEC3"}],"bufferViews":[{"buffer":0%s}]%s}'
    )
    meshopt, draco = b',"extensions":{"EXT_meshopt_compression":{}}', b',"extensions":{"KHR_draco_mesh_compression":{}}'
    required = b',"extensionsRequired":["KHR_draco_mesh_compression"]'
    for parts, kind in (
        ((b"", meshopt, b""), "meshopt"),
        ((draco, b"", b""), "Draco"),
        ((b"", b"", required), "draco"),
    ):
        text = document % parts
        text += b" " * (-len(text) % 4)
        data = struct.pack("<4sII", b"glTF", 2, 20 + len(text)) + struct.pack("<I4s", len(text), b"JSON") + text
        said = refusal(data, "a.glb")
        assert said.startswith(remedy) and kind in said.removeprefix(remedy)
