"""Damages small files of every format of depth and meshes that the pack reads, each time in another way.

`end_of` says how the reading of such a file ends. tests/unit/test_damaged_files.py tries a dozen of each,
`python -m tests.by_hand.damaged_files` a hundred.
"""

from __future__ import annotations

import base64
import io
import json
import random
import re
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import trimesh
from PIL import Image

from sf_model.files.depth_files import read_depth
from sf_model.files.units import Statements
from sf_model.files.writing import npz_bytes, png_bytes
from sf_model.scaffold import Pose, prepare_mesh, read_mesh

HEIGHT, WIDTH = 36, 44
PLANE = np.linspace(2, 6, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
EXR_COMPRESSIONS = ("NO", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
# How a remedy begins: with what to do.
REMEDY = re.compile(
    r"(check|choose|connect|crop|decimate|download|export|join|leave|load|open|place|put|render|save|set|switch|use) "
)
LARGE = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000)


def samples() -> dict[str, bytes]:
    """A good file of each kind, by a name that ends as the file's."""
    return {**_exr_files(), **_pictures(), **_arrays(), **_meshes()}


def _exr_files() -> dict[str, bytes]:
    tiles = OpenEXR.TileDescription()
    tiles.xSize, tiles.ySize = 16, 16
    kinds: dict[str, dict[str, Any]] = {
        "lines": {"type": OpenEXR.scanlineimage},
        "tiles": {"type": OpenEXR.tiledimage, "tiles": tiles},
    }
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.exr"
        for compression in EXR_COMPRESSIONS:
            for kind, options in kinds.items():
                header = {"compression": getattr(OpenEXR, f"{compression}_COMPRESSION"), **options}
                with OpenEXR.File(header, {"Z": PLANE.copy(), "confidence": PLANE / 6}) as file:
                    file.write(str(path))
                files[f"{compression} {kind}.exr"] = path.read_bytes()
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        parts = [OpenEXR.Part(dict(header), {name: PLANE.copy()}, name) for name in ("Y", "Z")]
        with OpenEXR.File(parts) as file:
            file.write(str(path))
        files["parts.exr"] = path.read_bytes()
    return files


def _pictures() -> dict[str, bytes]:
    def picture(values: np.ndarray, kind: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, kind, **options)
        return stream.getvalue()

    whole = (1000 * PLANE).astype(np.uint16)
    pages = [Image.fromarray(PLANE), Image.fromarray(PLANE + 1)]
    return {
        "plain.png": picture(whole, "PNG"),
        "own.png": png_bytes(_metric(), 0),
        "floats.tif": picture(PLANE, "TIFF"),
        "whole.tif": picture(whole, "TIFF"),
        "deflate.tiff": picture(PLANE, "TIFF", compression="tiff_adobe_deflate"),
        "lzw.tiff": picture(whole, "TIFF", compression="tiff_lzw"),
        "pages.tif": picture(PLANE, "TIFF", save_all=True, append_images=pages),
        "grey.pfm": b"Pf\n%d %d\n-1.0\n" % (WIDTH, HEIGHT) + PLANE.astype("<f4").tobytes(),
        "colour.pfm": b"PF\n%d %d\n1.0\n" % (WIDTH, HEIGHT) + np.stack([PLANE] * 3, -1).astype(">f4").tobytes(),
    }


def _metric() -> Any:
    return read_depth(saved(np.save, PLANE), "a.npy", Statements(fov_y_deg=40.0)).depth


def saved(save: Callable[..., None], *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    """What one of NumPy's functions writes."""
    stream = io.BytesIO()
    save(stream, *arrays, **named)
    return stream.getvalue()


def _arrays() -> dict[str, bytes]:
    focal_px = 0.5 * HEIGHT / np.tan(np.radians(20))  # the 40 degrees that `end_of` states
    matrix = np.array([[focal_px, 0, WIDTH / 2], [0, focal_px, HEIGHT / 2], [0, 0, 1]])
    return {
        "floats.npy": saved(np.save, PLANE),
        "batch.npy": saved(np.save, np.stack([(1000 * PLANE).astype(np.uint16)] * 2)),
        "own.npz": npz_bytes(_metric(), 0),
        "stored.npz": saved(np.savez, depth=PLANE, K=matrix),
        "packed.npz": saved(np.savez_compressed, depth=PLANE, intrinsics=matrix),
    }


def _meshes() -> dict[str, bytes]:
    scene = trimesh.Scene()
    turn = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3], [0.5, 0, 0])
    scene.add_geometry(trimesh.creation.box((1, 2, 3)), node_name="a", transform=turn)
    scene.add_geometry(trimesh.creation.icosphere(subdivisions=1), node_name="b", parent_node_name="a")
    box = trimesh.creation.box()
    parts = trimesh.exchange.gltf.export_gltf(scene)
    document = json.loads(parts["model.gltf"])
    for buffer in document["buffers"]:
        buffer["uri"] = "data:application/octet-stream;base64," + base64.b64encode(parts[buffer["uri"]]).decode()
    return {
        "box.obj": b"# a box\n" + str(box.export(file_type="obj")).encode(),
        "box.stl": box.export(file_type="stl"),
        "text.stl": box.export(file_type="stl_ascii").encode(),
        "scene.glb": scene.export(file_type="glb"),
        "skinned.glb": skinned_glb(),
        "embedded.gltf": json.dumps(document).encode(),
    }


def skinned_glb() -> bytes:
    """A triangle in strips, with a sparse position, a skin of two joints, a matrix and a quaternion."""
    positions = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], "<f4")
    joints, weights = np.array([[0, 1, 0, 0]] * 4, "u1"), np.array([[0.5, 0.5, 0, 0]] * 4, "<f4")
    inverse = np.stack([np.eye(4)] * 2).astype("<f4")
    blobs = [positions, joints, weights, inverse, np.array([0, 1, 2, 3], "<u2"), np.array([2, 0], "<u2"), positions[:1]]
    views, data = [], b""
    for blob in blobs:
        views.append({"buffer": 0, "byteOffset": len(data), "byteLength": blob.nbytes})
        data += blob.tobytes() + bytes(-blob.nbytes % 4)
    sparse = {"count": 1, "indices": {"bufferView": 5, "componentType": 5123}, "values": {"bufferView": 6}}
    kinds = [(5126, 4, "VEC3"), (5121, 4, "VEC4"), (5126, 4, "VEC4"), (5126, 2, "MAT4"), (5123, 4, "SCALAR")]
    accessors: list[dict[str, Any]] = [
        {"bufferView": view, "componentType": number, "count": count, "type": kind}
        for view, (number, count, kind) in enumerate(kinds)
    ]
    accessors[0]["sparse"] = sparse
    attributes = {"POSITION": 0, "JOINTS_0": 1, "WEIGHTS_0": 2}
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0, 1]}],
        "nodes": [
            {"mesh": 0, "skin": 0},
            {"children": [2], "rotation": [0, 0, 0, 1], "scale": [1, 2, 1]},
            {"matrix": np.eye(4).reshape(-1).tolist()},
        ],
        "skins": [{"joints": [1, 2], "inverseBindMatrices": 3}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": 4, "mode": 5}]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(data)}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The file cut off, with bits turned, with other bytes, with bytes put in or left out, or with a large number.

    Half of the places are in the first 400 bytes: headers are short.
    """
    content = bytearray(data)
    kind = draw.choice(["cut", "bits", "bytes", "insert", "remove", "number", "digits"])
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(min(len(content), 400) if draw.random() < 0.5 else len(content))
        if kind == "cut":
            return bytes(content[:place])
        if kind == "bits":
            content[place] ^= 1 << draw.randrange(8)
        elif kind == "bytes":
            content[place] = draw.randrange(256)
        elif kind == "insert":
            content[place:place] = draw.randbytes(draw.randint(1, 16))
        elif kind == "remove":
            del content[place : min(place + draw.randint(1, 16), len(content) - 1)]
        elif kind == "number":
            order = draw.choice(["<I", ">I"])
            content[place : place + 4] = struct.pack(order, draw.choice(LARGE))[: len(content) - place]
        else:  # a number of a text, if there is one
            numbers = [match.span() for match in re.finditer(rb"-?[0-9.]+", content[:4000])]
            if numbers:
                start, end = draw.choice(numbers)
                content[start:end] = draw.choice([b"-1", b"0", b"1e999", b"NaN", b"99999999", b"null", b'"a"', b"[]"])
    return bytes(content)


def end_of(data: bytes, name: str) -> str:
    """ "read" or "refused", or what is wrong with the error that it ends in. `name`: ends as the file's."""
    try:
        suffix = name.rpartition(".")[2]
        if suffix in ("obj", "stl", "glb", "gltf"):
            vertices, faces = read_mesh(data, suffix)
            prepare_mesh(vertices, faces, 0.0, "height", Pose())
        else:
            read_depth(data, name, Statements(fov_y_deg=40.0))
    except ValueError as error:
        # A file of depth is named before the remedy; a mesh is named by its node.
        return "refused" if REMEDY.match(str(error).removeprefix(f"{name}: ")) else f"without a remedy: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "read"
