"""Point clouds as .ply files, which ComfyUI's 3D viewers and savers read."""

from __future__ import annotations

import numpy as np
import torch

_VERTEX = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])


def ply_bytes(points: torch.Tensor, colors: torch.Tensor) -> bytes:
    """A binary little-endian .ply. points: (N, 3) metres; colors: (N, 3) in [0, 1]."""
    vertices = np.empty(points.shape[0], _VERTEX)
    vertices["position"] = points.cpu().numpy()
    vertices["color"] = (colors.clamp(0, 1) * 255).round().byte().cpu().numpy()
    properties = [f"property float {axis}" for axis in "xyz"] + [
        f"property uchar {c}" for c in ("red", "green", "blue")
    ]
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *properties,
        "end_header",
        "",
    ]
    return "\n".join(header).encode("ascii") + vertices.tobytes()
