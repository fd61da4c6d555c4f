"""The parts of a geometry dict from other nodes: which are there, and whether their shapes belong to its depth.

`host/geometry.py` has the list of parts. What the numbers mean is looked at there.
"""

from __future__ import annotations

from typing import Any

import torch

REMEDY = "connect a geometry of Predict Metric Depth, MoGe 2 or Depth Anything 3 Metric"
# Parts with one value for each pixel, and those with three.
VALUES = ("mask", "sky", "confidence")
VECTORS = ("points", "normal", "image")


def check_geometry(value: Any, name: str) -> dict[str, Any]:
    """A geometry without the parts that are None. ValueError, with the remedy, for parts of other types or shapes."""
    if not isinstance(value, dict):
        raise ValueError(f"{REMEDY} to {name}: what is connected is a {type(value).__name__}, not a geometry")
    geometry = {key: part for key, part in value.items() if part is not None}
    for key in ("depth", *VALUES, *VECTORS, "intrinsics"):
        if key in geometry and not _is_numbers(geometry[key]):
            raise ValueError(
                f"{REMEDY} to {name}: {key} of the connected one is {_described(geometry[key])}, and not a tensor of "
                "numbers"
            )
    depth = geometry.get("depth")
    if depth is None or depth.ndim != 3:
        return geometry  # to_metric_depth says what to do
    for key in (*VALUES, *VECTORS):
        if key in geometry and not _fits(geometry[key], tuple(depth.shape), key):
            raise ValueError(
                f"{REMEDY} to {name}: {key} {tuple(geometry[key].shape)} and depth {tuple(depth.shape)} of the "
                "connected one do not belong together"
            )
    _check_intrinsics(geometry, name)
    return geometry


def _is_numbers(part: Any) -> bool:
    return isinstance(part, torch.Tensor) and not part.is_complex()


def _described(part: Any) -> str:
    return f"a tensor of {part.dtype}" if isinstance(part, torch.Tensor) else f"of type {type(part).__name__}"


def _fits(part: torch.Tensor, depth: tuple[int, ...], key: str) -> bool:
    """Whether a part has the depth's batch, or one for all. An image may have another size."""
    shape = tuple(part.shape)
    if key == "image":
        return len(shape) == 4 and shape[0] in (1, depth[0]) and 0 not in shape and shape[3] >= 3
    own = shape[:3] if key in VECTORS and shape[-1:] == (3,) else shape
    is_whole = len(shape) == (4 if key in VECTORS else 3)
    return is_whole and own[0] in (1, depth[0]) and own[1:] == depth[1:]


def _check_intrinsics(geometry: dict[str, Any], name: str) -> None:
    if "intrinsics" not in geometry:
        return
    matrices, batch = geometry["intrinsics"], len(geometry["depth"])
    if matrices.shape[-2:] != (3, 3) or matrices.numel() not in (9, 9 * batch):
        raise ValueError(
            f"{REMEDY} to {name}: intrinsics {tuple(matrices.shape)} of the connected one are not one 3x3 matrix for "
            f"each of its {batch} images"
        )
