"""The document and the binary data of a glTF 2.0 file: .glb, or .gltf with its data beside it or inside its JSON."""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
from collections.abc import Callable
from typing import Any

MAX_JSON_BYTES = 2**26
# Gives the contents of a file beside the mesh, by its name. Raises ValueError, with the remedy.
ReadBeside = Callable[[str], bytes]
Document = dict[str, Any]
# What to do in the programs that compress meshes.
UNCOMPRESSED = "export it without compression (in Blender: Compression off; with gltf-transform: no draco, no meshopt)"


class GltfError(ValueError):
    """A file that cannot be read. The message begins with the remedy."""


def open_glb(data: bytes) -> tuple[Document, bytes]:
    """The JSON document and the binary chunk of a .glb file. ValueError for a damaged one."""
    if len(data) < 20 or data[:4] != b"glTF":
        raise GltfError("export the mesh as binary glTF (.glb): this is not a GLB file")
    _, version, length = struct.unpack_from("<4sII", data)
    if version != 2 or length > len(data):
        raise GltfError(
            f"export the GLB file again as glTF 2.0: it has version {version} and {len(data)} of {length} bytes"
        )
    found: dict[bytes, bytes] = {}
    offset = 12
    while offset + 8 <= length:
        size, kind = struct.unpack_from("<I4s", data, offset)
        if offset + 8 + size > length:
            raise GltfError("export the GLB file again: it is truncated")
        if kind == b"JSON" and size > MAX_JSON_BYTES:
            raise GltfError(f"join the GLB file's parts: its JSON has {size} bytes, at most {MAX_JSON_BYTES} are read")
        found.setdefault(kind, data[offset + 8 : offset + 8 + size])
        offset += 8 + size
    return parse_document(found.get(b"JSON", b"")), found.get(b"BIN\0", b"")


def parse_document(text: bytes) -> Document:
    """The JSON of a file. ValueError for another kind of JSON, and for one that is too large or too deep."""
    if len(text) > MAX_JSON_BYTES:
        raise GltfError(f"export it as .glb: its JSON has {len(text)} bytes, at most {MAX_JSON_BYTES} are read")
    try:
        document = json.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise GltfError("export the file again: its JSON cannot be read") from error
    if not isinstance(document, dict):
        raise GltfError("export the file again: its JSON is not an object")
    return document


def buffers_of(document: Document, binary: bytes, read_beside: ReadBeside | None) -> list[bytes]:
    """The bytes of every buffer: of the binary chunk, of the JSON itself, or of a file beside the mesh."""
    buffers = []
    for index, buffer in enumerate(document.get("buffers", [])):
        uri = buffer.get("uri")
        if uri is None:
            buffers.append(binary if index == 0 else b"")
        elif uri.startswith("data:"):
            buffers.append(_embedded(uri))
        else:
            buffers.append(_beside(uri, read_beside))
    return buffers


def _embedded(uri: str) -> bytes:
    head, _, text = uri.partition(",")
    if not head.endswith(";base64"):
        raise GltfError("export it as .glb, because its embedded data is not base64")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise GltfError("export it again, because its embedded data is damaged") from error


def _unquoted(uri: str) -> str:
    """Without the %20 of addresses."""
    plain = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), uri.encode("utf-8"))
    return plain.decode("utf-8", "replace")


def _beside(uri: str, read_beside: ReadBeside | None) -> bytes:
    name = _unquoted(uri)
    parts = name.replace("\\", "/").split("/")
    if "://" in name or ":" in parts[0] or name.startswith(("/", "\\")) or ".." in parts:
        raise GltfError(f"export it as .glb, because its data is at {name!r}, and only files beside it are read")
    if read_beside is None:
        raise GltfError(f"export it as one .glb, because its data is in another file, {name!r}")
    try:
        return read_beside(name)
    except ValueError as error:
        raise GltfError(str(error)) from error
