"""A z-buffer of single integers, so that one scatter minimum is the depth test.

Positive float32 numbers have the order of their bit patterns. An int64 key holds depth bits and primitive id. So one
deterministic minimum chooses the nearest depth and, among equal depths, the lowest id.
"""

from __future__ import annotations

import torch
from torch import Tensor

NO_PRIMITIVE = 2**31 - 1
# In a map of object indices, which are 0 or more.
GROUND_INDEX = -1
SKY_INDEX = -2


def pack(depth: Tensor, primitive: Tensor | int) -> Tensor:
    """int64 keys of depths (positive float32 or inf) and ids in [0, NO_PRIMITIVE]."""
    return (depth.view(torch.int32).to(torch.int64) << 32) | primitive


def unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The float32 depths and int64 ids of keys."""
    return (keys >> 32).to(torch.int32).view(torch.float32), keys & 0xFFFFFFFF
