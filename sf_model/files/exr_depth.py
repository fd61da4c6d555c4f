"""The depth in an OpenEXR file of a renderer: which channel of which part it is, and where it stands in the picture."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from .exr import read_channels
from .exr_parts import ExrPart, read_parts
from .units import CAMERA_TOLERANCE, CENTIMETRES, METRES_PER_UNIT, StoredDepth

# Names of depth layers and channels, in small letters and digits alone, and endings of longer ones: Blender, Nuke,
# Houdini (Pz), V-Ray (VRayZDepth), Unreal (FinalImageWorldDepth, SceneDepth).
_NAMES = ("depth", "z", "zdepth", "depthz", "pz", "zbuffer")
_ENDINGS = ("zdepth", "worlddepth", "scenedepth")
_MOST_NAMES = 24


@dataclass(frozen=True)
class _Channel:
    part: ExrPart
    name: str

    @property
    def full_name(self) -> str:
        return self.part.full_name(self.name)


def read_exr_depth(data: bytes, layer: str = "") -> StoredDepth:
    """The depth of a file, over its display window, with what the file states. ValueError, with the remedy.

    layer: the layer, part or channel to read, without regard to capitals. "": the depth channel. Channels are named
    part.layer.channel.
    """
    parts = read_parts(data)
    channels = [_Channel(part, name) for part in parts for name in part.channels]
    found = _chosen(channels, layer.strip()) if layer.strip() else _depth_channel(channels)
    part = found.part
    aspect = part.number_of("pixelAspectRatio")
    if aspect is not None and not abs(aspect - 1) <= CAMERA_TOLERANCE:
        raise ValueError(f"render it with square pixels, because its pixel aspect ratio is {aspect:g}")
    values = _grey(data, found)
    confidence = "confidence" in part.channels and found.name != "confidence"
    unit = part.text_of("depthUnit")
    if unit is not None and unit not in METRES_PER_UNIT:
        raise ValueError(f"set its attribute depthUnit to one of {', '.join(METRES_PER_UNIT)}, because it is {unit!r}")
    fov = part.number_of("fovYDeg")
    return StoredDepth(
        values=_on_display(values, part, np.inf),
        confidence=_on_display(read_channels(data, part, ["confidence"])["confidence"], part, 1.0)
        if confidence
        else None,
        unit=unit,
        unit_of_program=_unit_of_program(parts),
        fov_y_deg=None if fov is None else np.array([fov]),
        intrinsics=part.matrix_of("cameraIntrinsics"),
    )


def _chosen(channels: list[_Channel], layer: str) -> _Channel:
    """The channel that the user names, or the depth channel of the layer or part. ValueError."""

    def inside(channel: _Channel) -> bool:
        names = channel.full_name.lower(), channel.name.lower(), channel.part.name.lower()
        wanted = layer.lower()
        return any(name == wanted or name.startswith(f"{wanted}.") for name in names)

    exact = [channel for channel in channels if layer.lower() in (channel.full_name.lower(), channel.name.lower())]
    candidates = exact or [channel for channel in channels if inside(channel)]
    if not candidates:
        raise ValueError(f"set layer to one of these, because it has no {layer!r}: {_listed(channels)}")
    if len(candidates) == 1:
        return candidates[0]
    return _depth_channel(candidates)


def _depth_channel(channels: list[_Channel]) -> _Channel:
    """Z, else a layer's depth (Blender's ViewLayer.Depth.Z, Depth.V), else Y, V or R. ValueError."""
    ranks = {index: rank for index, channel in enumerate(channels) if (rank := _rank(channel)) is not None}
    best = [channels[index] for index, rank in ranks.items() if rank == min(ranks.values())]
    if len(best) == 1:
        return best[0]
    if best:
        raise ValueError(f"set layer to the depth to read, because it has more than one: {_listed(best)}")
    raise ValueError(
        "save one depth pass alone, as channel Z, or set layer to the channel that is the depth, because it has no "
        f"depth channel among {_listed(channels)}"
    )


def _rank(channel: _Channel) -> int | None:
    """How much a channel looks like the depth: less is more. None: not at all."""
    layer, _, last = channel.full_name.lower().rpartition(".")
    plain = _plain(layer.rpartition(".")[2])
    is_depth = plain in _NAMES or plain.endswith(_ENDINGS)
    kinds = [
        channel.full_name == "Z",
        is_depth and last in ("z", "v"),
        not layer and (_plain(last) in _NAMES or _plain(last).endswith(_ENDINGS)),
        is_depth and last in ("y", "r", "x"),
        # A part that has nothing but Z.
        channel.name == "Z" and list(channel.part.channels) == ["Z"],
        *(channel.full_name == name for name in ("Y", "V", "R")),
    ]
    return kinds.index(True) if any(kinds) else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name)


def _listed(channels: list[_Channel]) -> str:
    names = [channel.full_name for channel in channels]
    more = f", and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _grey(data: bytes, found: _Channel) -> np.ndarray:
    """(H, W) of a channel. ValueError where it is the red of a colour picture."""
    part, name = found.part, found.name
    colors = [name[:-1] + color for color in "GB" if name[:-1] + color in part.channels] if name.endswith("R") else []
    channels = read_channels(data, part, [name, *colors])
    if any(not np.array_equal(channels[name], channels[color], equal_nan=True) for color in colors):
        raise ValueError(
            "switch on the Z pass of the renderer (in Blender: View Layer, Passes, Z) and save that, because it is a "
            "colour picture, without a depth channel (Z)"
        )
    return channels[name]


def _unit_of_program(parts: list[ExrPart]) -> tuple[str, str] | None:
    """Unreal Engine renders in centimetres. Its movie render queue names its attributes unreal/..."""
    names = (name.lower() for part in parts for name in part.attributes)
    return ("Unreal Engine", CENTIMETRES) if any(name.startswith("unreal/") for name in names) else None


def _on_display(picture: np.ndarray, part: ExrPart, outside: float) -> np.ndarray:
    """(1, H, W): the data window's picture at its place in the display window, which is what the camera sees.

    outside: the value where the display window has no data.
    """
    (x0, y0, x1, y1), (left, top, right, bottom) = part.data_window, part.display_window
    if part.data_window == part.display_window:
        return picture[None]
    if picture.dtype.kind == "u":
        outside = 0
    full = np.full((bottom - top + 1, right - left + 1), outside, picture.dtype)
    rows, columns = slice(max(y0, top), min(y1, bottom) + 1), slice(max(x0, left), min(x1, right) + 1)
    if rows.start < rows.stop and columns.start < columns.stop:
        inner = picture[rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0]
        full[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = inner
    return full[None]
