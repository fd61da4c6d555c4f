"""Depth Anything 3 Metric: from what its network gives to metres.

The network sees every picture as one of a camera with a focal length of 300 pixels: metres = output * focal / 300, with
the focal length in pixels of the size at which the network ran (the model's authors, README of Depth-Anything-3). The
host passes the output on as it is, at the size of the picture. Neither the size of the run nor the camera is in its
geometry. So the size is taken from the prompt, and the camera is the one that the host assumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from comfy_api.v0_0_2 import io

from .graph import nearest_before

# Focal length over width. The host assumes it for a Depth Anything 3 geometry without a camera.
DEFAULT_FOCAL = 0.7
CANONICAL_FOCAL_PX = 300.0
PATCH = 14
INFERENCE = "DA3Inference"
LONGEST, SHORTEST = "upper_bound_resize", "lower_bound_resize"


@dataclass(frozen=True)
class Da3Run:
    """The settings of Run Depth Anything 3. The defaults are the host's."""

    resolution: int = 504
    method: str = LONGEST
    # Whether the prompt says so.
    found: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) at which the network runs on a picture of this size: whole patches."""
        side = min(height, width) if self.method == SHORTEST else max(height, width)
        scale = self.resolution / side
        return _whole_patches(round(height * scale)), _whole_patches(round(width * scale))

    def metres_per_output(self, height: int, width: int, focal: torch.Tensor) -> torch.Tensor:
        """(B,) what one unit of the network's output is, for pictures of this size. focal: (B,) over the width."""
        run_height, run_width = self.size(height, width)
        focal_x_px, focal_y_px = focal * run_width, focal * width / height * run_height
        return (focal_x_px + focal_y_px) / 2 / CANONICAL_FOCAL_PX


ASSUMED_RUN = Da3Run()


def find_run(node: type[io.ComfyNode], input_name: str) -> Da3Run:
    """The settings of the Run Depth Anything 3 before an input of the running node, or the host's defaults."""
    runs = {_run_of(found["inputs"]) for found in nearest_before(node, input_name, INFERENCE)}
    return runs.pop() if len(runs) == 1 else ASSUMED_RUN


def _run_of(inputs: dict[str, Any]) -> Da3Run:
    resolution, method = inputs.get("resolution"), inputs.get("resize_method")
    # An input that another node fills is a link there.
    known = isinstance(resolution, int) and resolution > 0 and method in (LONGEST, SHORTEST)
    return Da3Run(resolution, method, found=True) if known else ASSUMED_RUN


def _whole_patches(size: int) -> int:
    """The nearest multiple of PATCH, at least 1 as in the host; half way goes up."""
    return max(1, (size + PATCH // 2) // PATCH * PATCH)
