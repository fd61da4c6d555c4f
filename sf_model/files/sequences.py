"""Numbered files as the frames of one batch: which files they are, and their numbers in one array."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .units import StoredDepth, field_of_view_of

# 2048 x 2048 pixels, 64 frames.
MAX_PIXELS_TOGETHER = 2**28
_NUMBER = re.compile(r"^(.*?)(\d+)(\D*)$")


def frames_of(path: Path, count: int, is_readable: Callable[[Path], bool]) -> list[Path]:
    """The file, and those with the next numbers in its folder; `count` of them, or with 0 all up to the first gap.

    The number is the last one in the name: depth_0001.exr, depth_0002.exr. is_readable: whether a file may be read.
    Raises ValueError where the name has no number, or where a frame is missing.
    """
    if count == 1:
        return [path]
    match = _NUMBER.match(path.name.removesuffix(path.suffix))
    if match is None:
        raise ValueError(f"{path.name}: set frames to 1, or number the files, because its name has no number")
    before, digits, after = match.groups()
    pattern = re.compile(re.escape(before) + r"(\d+)" + re.escape(after + path.suffix) + "$")
    found: dict[int, Path] = {}
    for file in sorted(path.parent.iterdir()):
        numbered = pattern.match(file.name)
        # Of 1 and 0001, the one that is written like the first file.
        if numbered and is_readable(file) and (int(numbered[1]) not in found or len(numbered[1]) == len(digits)):
            found[int(numbered[1])] = file
    frames, number = [path], int(digits) + 1
    while number in found and len(frames) != count:
        frames.append(found[number])
        number += 1
    if len(frames) < count:
        missing = f"{before}{number:0{len(digits)}}{after}{path.suffix}"
        raise ValueError(
            f"{path.name}: set frames to {len(frames)}, or add the missing file, because there is no {missing}"
        )
    return frames


def check_same(frames: Sequence[tuple[str, StoredDepth]]) -> None:
    """ValueError where the last frame does not fit to the first, or where all together are too many pixels."""
    (first_name, first), (_, last) = frames[0], frames[-1]
    if last.values.shape[1:] != first.values.shape[1:]:
        sizes = ["{1}x{0}".format(*stored.values.shape[1:]) for stored in (last, first)]
        raise ValueError(f"save all frames at one size, because it has {sizes[0]} pixels and {first_name} {sizes[1]}")
    if last.unit != first.unit or last.values.dtype.kind != first.values.dtype.kind:
        raise ValueError(
            f"save all frames in one unit, because it has {last.values.dtype} in {last.unit or 'no stated unit'} and "
            f"{first_name} {first.values.dtype} in {first.unit or 'no stated unit'}"
        )
    pixels = sum(stored.values.size for _, stored in frames)
    if pixels > MAX_PIXELS_TOGETHER:
        raise ValueError(
            f"set frames to less than {len(frames)}, or save them smaller, because together they have {pixels} pixels, "
            f"more than {MAX_PIXELS_TOGETHER}"
        )


def joined(frames: Sequence[StoredDepth]) -> StoredDepth:
    """All frames as one. ValueError where only some of them state a camera."""
    if len(frames) == 1:
        return frames[0]
    counts = [len(frame.values) for frame in frames]
    stated = [frame.fov_y_deg is not None or frame.intrinsics is not None for frame in frames]
    if any(stated) and not all(stated):
        raise ValueError("save all frames with their camera, or none, because only some of them state one")
    confidence, fov = None, None
    if any(frame.confidence is not None for frame in frames):
        parts = [np.ones(frame.values.shape) if frame.confidence is None else frame.confidence for frame in frames]
        confidence = np.concatenate(parts)
    if all(stated):
        fovs = [np.broadcast_to(field_of_view_of(frame, 0.0), count) for frame, count in zip(frames, counts)]
        fov = np.concatenate(fovs)
    return StoredDepth(
        values=np.concatenate([frame.values for frame in frames]),
        confidence=confidence,
        unit=frames[0].unit,
        unit_of_program=frames[0].unit_of_program,
        fov_y_deg=fov,
    )
