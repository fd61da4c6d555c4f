"""A z-buffer whose entries are single integers, so that one scatter minimum is the whole depth test.

Positive float32 numbers order like their bit patterns, so (depth bits, primitive id) packed in an int64 makes one
deterministic minimum choose both the nearest depth and, among equal depths, the lowest primitive id.
"""

from __future__ import annotations

import torch
from torch import Tensor

NO_PRIMITIVE = 2**31 - 1
# In a map of which object a pixel shows, 0 and up being the objects: the ground, and nothing.
GROUND_INDEX = -1
SKY_INDEX = -2


def pack(depth: Tensor, primitive: Tensor | int) -> Tensor:
    """int64 keys of positive float32 depths (inf included) and of ids in [0, NO_PRIMITIVE]."""
    return (depth.view(torch.int32).to(torch.int64) << 32) | primitive


def unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Float32 depths and int64 ids of keys."""
    return (keys >> 32).to(torch.int32).view(torch.float32), keys & 0xFFFFFFFF
