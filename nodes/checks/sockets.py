"""What may come through each type of socket: shapes and types only. Nodes look at the numbers themselves.

A check takes the value and the name of the input. It returns the value as the node reads it, or raises a ValueError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.clip_vision
import comfy.model_patcher
import torch
from comfy_api.v0_0_2 import Types

from ...sf_model.scaffold import ScaffoldMesh, ScaffoldSolid
from ..runtime.loaded_checkpoint import SpatialFusionModel
from .geometry import check_geometry


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, (list, tuple, dict)) and not value:
        return f"an empty {type(value).__name__}"
    return f"a value of type {type(value).__name__}"


def _is_filled(value: Any, dimensions: tuple[int, ...]) -> bool:
    """Whether this is a tensor of floating-point numbers with so many dimensions, none of them empty."""
    is_tensor = isinstance(value, torch.Tensor) and value.is_floating_point()
    return is_tensor and value.ndim in dimensions and 0 not in value.shape


def _image(value: Any, name: str) -> torch.Tensor:
    if _is_filled(value, (4,)) and value.shape[-1] in (1, 3, 4):
        return value
    raise ValueError(
        f"connect an image to {name}, such as Load Image's: an IMAGE is (batch, height, width, 3) with values from 0 "
        f"to 1, and {_kind(value)} is connected"
    )


def _mask(value: Any, name: str) -> torch.Tensor:
    if _is_filled(value, (2, 3, 4)):
        return value
    raise ValueError(
        f"connect a mask to {name}, such as Load Image's: a MASK is (batch, height, width) with values from 0 to 1, "
        f"and {_kind(value)} is connected"
    )


def _latent(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, dict) and _is_filled(value.get("samples"), (3, 4, 5)):
        mask = value.get("noise_mask")
        if mask is None or _is_filled(mask, (2, 3, 4, 5)):
            return value
        raise ValueError(f"connect another mask to Set Latent Noise Mask: the noise mask of {name} is {_kind(mask)}")
    found = f"a dict whose samples are {_kind(value.get('samples'))}" if isinstance(value, dict) else _kind(value)
    raise ValueError(f"connect a latent to {name}, such as Empty Latent Image's or VAE Encode's: {found} is connected")


def _conditioning(value: Any, name: str) -> list[Any]:
    if isinstance(value, (list, tuple)) and value and all(_is_condition(entry) for entry in value):
        return list(value)
    raise ValueError(
        f"connect an encoded prompt to {name}, from Predict Metric Depth or CLIP Text Encode: {_kind(value)} is "
        "connected, and a conditioning is a list of pairs (tensor, options)"
    )


def _is_condition(entry: Any) -> bool:
    # Some bases have conditions without a tensor.
    is_pair = isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[1], dict)
    return is_pair and (entry[0] is None or _is_filled(entry[0], (2, 3, 4)))


def _objects(value: Any, name: str) -> tuple[Any, ...]:
    if isinstance(value, (list, tuple)) and all(isinstance(thing, (ScaffoldSolid, ScaffoldMesh)) for thing in value):
        return tuple(value)
    raise ValueError(f"connect objects of Scaffold Object or Scaffold Mesh to {name}: {_kind(value)} is connected")


def _mesh(value: Any, name: str) -> Any:
    if isinstance(value, Types.File3D):
        return value
    parts = [getattr(value, part, None) for part in ("vertices", "faces")]
    if isinstance(value, Types.MESH) and all(isinstance(part, torch.Tensor) for part in parts):
        return value
    raise ValueError(f"connect a mesh or a 3D file to {name}, such as Load 3D's: {_kind(value)} is connected")


def _of_class(cls: type, remedy: str) -> Callable[[Any, str], Any]:
    def check(value: Any, name: str) -> Any:
        if isinstance(value, cls):
            return value
        raise ValueError(f"connect {remedy} to {name}: {_kind(value)} is connected")

    return check


def _with(attributes: tuple[str, ...], remedy: str) -> Callable[[Any, str], Any]:
    """For types that extensions make classes of their own for."""

    def check(value: Any, name: str) -> Any:
        if all(hasattr(value, attribute) for attribute in attributes):
            return value
        raise ValueError(f"connect {remedy} to {name}: {_kind(value)} is connected")

    return check


# By the socket's type. A type that is not here is looked at by its node.
CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "IMAGE": _image,
    "MASK": _mask,
    "LATENT": _latent,
    "CONDITIONING": _conditioning,
    "MODEL": _of_class(comfy.model_patcher.ModelPatcher, "the diffusion model of a loader"),
    "CLIP": _with(("patcher", "cond_stage_model", "tokenize", "clone"), "the text encoder of a loader"),
    "VAE": _with(("encode", "decode"), "the VAE of a loader"),
    "CLIP_VISION": _of_class(comfy.clip_vision.ClipVisionModel, "DINOv2 of Load CLIP Vision"),
    "SPATIALFUSION": _of_class(SpatialFusionModel, "Load SpatialFusion MLLM+MoT"),
    "SPATIALFUSION_OBJECTS": _objects,
    "MOGE_GEOMETRY": check_geometry,
    "MESH": _mesh,
}
