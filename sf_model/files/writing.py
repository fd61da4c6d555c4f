"""Writes metric depth as files that `depth_files.py` reads back.

NPZ has the float32 arrays depth_m (metres, inf where there is no surface), confidence and fov_y_deg.
EXR has the float32 channels Z and confidence, and the attributes depthUnit, fovYDeg and cameraIntrinsics.
PNG has one grey channel of 16 bits: whole millimetres, 0 where there is no surface. The text chunk "SpatialFusion" has
unit and camera as JSON. There is no confidence.
"""

from __future__ import annotations

import io
import json

import numpy as np
import torch
from PIL import Image, PngImagePlugin

from ..depth.metric_depth import MetricDepth
from .exr import write_exr
from .units import METRES, MILLIMETRES

LARGEST_PNG_M = 65.535
PNG_CHUNK = "SpatialFusion"


def npz_bytes(depth: MetricDepth, index: int) -> bytes:
    """One image of a batch as an NPZ file: depth_m (H, W), confidence (H, W), fov_y_deg (), all float32."""
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        depth_m=depth.depth[index].cpu().numpy().astype(np.float32),
        confidence=depth.confidence[index].cpu().numpy().astype(np.float32),
        fov_y_deg=depth.fov_y_deg[index].cpu().numpy().astype(np.float32),
    )
    return stream.getvalue()


def exr_bytes(depth: MetricDepth, index: int) -> bytes:
    """One image of a batch as an EXR file. Depth and confidence are exact."""
    channels = {"Z": depth.depth[index], "confidence": depth.confidence[index]}
    return write_exr(
        {name: values.cpu().numpy() for name, values in channels.items()},
        {
            "depthUnit": METRES,
            "fovYDeg": depth.fov_y_deg[index].item(),
            "cameraIntrinsics": np.array(_intrinsics_px(depth, index), dtype=np.float32),
        },
    )


def png_bytes(depth: MetricDepth, index: int) -> bytes:
    """One image of a batch as a PNG in millimetres, rounded. ValueError where a surface is beyond LARGEST_PNG_M.

    A surface nearer than 1 mm is stored as 1, because 0 means no surface.
    """
    metres = depth.depth[index].cpu().numpy().astype(np.float64)
    surface = np.isfinite(metres)
    millimetres = np.rint(np.where(surface, metres, 0.0) * 1000)
    if millimetres.max() > 65535:
        raise ValueError(
            "save it as EXR, or limit the depth with Adjust Metric Depth: the depth reaches "
            f"{millimetres.max() / 1000:.1f} m, but a 16-bit PNG in millimetres ends at {LARGEST_PNG_M} m. Nothing was "
            "written"
        )
    millimetres = np.where(surface, np.maximum(millimetres, 1), 0).astype(np.uint16)
    facts = {
        "unit": MILLIMETRES,
        "fov_y_deg": depth.fov_y_deg[index].item(),
        "intrinsics_px": _intrinsics_px(depth, index),
    }
    text = PngImagePlugin.PngInfo()
    text.add_text(PNG_CHUNK, json.dumps(facts))
    stream = io.BytesIO()
    Image.fromarray(millimetres).save(stream, "PNG", pnginfo=text)
    return stream.getvalue()


def _intrinsics_px(depth: MetricDepth, index: int) -> list[list[float]]:
    """The (3, 3) camera matrix in pixels, as in OpenCV."""
    _, height, width = depth.depth.shape
    matrix = depth.intrinsics()[index].cpu().double() * torch.tensor([[width], [height], [1.0]], dtype=torch.float64)
    return matrix.tolist()
