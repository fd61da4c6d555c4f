"""Keeps the checkpoint that was loaded beside a text encoder, so that a LoRA on the encoder does not load it again.

Every change of the CLIP runs the loader node again. The clones of a CLIP, with whatever LoRAs, share one encoder. So a
file is kept as long as the host keeps this encoder, and no longer.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import comfy.sd
import torch

from .loaded_checkpoint import LoadedFile

# By the encoder: the state of the file, and what was loaded from it. No value may hold a CLIP: it would keep its key.
_KEPT: WeakKeyDictionary[torch.nn.Module, tuple[str, LoadedFile]] = WeakKeyDictionary()


def kept_beside(clip: comfy.sd.CLIP, state: str, load: Callable[[], LoadedFile]) -> LoadedFile:
    """The file that was loaded last beside the encoder of this CLIP, if it is in this state. Else `load` is called.

    state: of the file, another one when it was written again.
    """
    encoder = clip.cond_stage_model
    if encoder not in _KEPT or _KEPT[encoder][0] != state:
        # Let go of the other file before this one is read.
        _KEPT.pop(encoder, None)
        _KEPT[encoder] = state, load()
    return _KEPT[encoder][1]
