"""Compares the base that is loaded with the one that a checkpoint was trained on."""

from __future__ import annotations

from pathlib import Path

import comfy.model_patcher
import comfy.utils
import torch
from comfy.quant_ops import QuantizedTensor

from ...sf_model.backbones.revision import fingerprint, same_release, short_name

EIGHT_BIT_TYPES = (torch.float8_e4m3fn, torch.float8_e5m2)


def revision_warning(
    what: str, patcher: comfy.model_patcher.ModelPatcher, weight: str, trained_on: str, expected: str | None
) -> str | None:
    """A warning if the loaded model is not the release that the checkpoint was trained on, else None.

    what: "CLIP" or "MODEL". weight: the path in `patcher.model` of the matrix that is compared. trained_on: the
    checkpoint's base revision. expected: the fingerprint in the checkpoint, if there is one. The Mini names its
    revision. Other bases are told apart by their weights. These are compared without LoRAs.
    """
    loaded = getattr(patcher.model, "base_revision", None)
    if loaded is not None:
        return None if loaded == trained_on else _message(what, loaded, trained_on)
    original = None if expected is None else _original(patcher, weight)
    if original is None:
        return None
    value, eight_bit = original
    found = fingerprint(value)
    if same_release(found, expected, eight_bit):
        return None
    return _message(what, f"{_file_name(patcher)} [{short_name(found)}]", f"{trained_on} [{short_name(expected)}]")


def _message(what: str, loaded: str, trained_on: str) -> str:
    return (
        f"this {what} is {loaded}, the checkpoint was trained on {trained_on}. It runs, but the depth may be followed "
        "less well. Load the release that the checkpoint was trained on, or a checkpoint for this one"
    )


def _original(patcher: comfy.model_patcher.ModelPatcher, name: str) -> tuple[torch.Tensor, bool] | None:
    """The weight as loaded, without LoRAs, and whether it is stored in 8 bits or fewer.

    None where it cannot be compared: GGUF has tensors of its own class, which are too coarse.
    """
    stored = patcher.backup[name].weight if name in patcher.backup else comfy.utils.get_attr(patcher.model, name)
    value = stored.detach()
    if type(value) is torch.Tensor:
        return value.float(), value.dtype in EIGHT_BIT_TYPES
    if isinstance(value, QuantizedTensor):
        return value.dequantize().float(), True
    return None


def _file_name(patcher: comfy.model_patcher.ModelPatcher) -> str:
    """The name of the file that a stock loader read, or the name of the model's class."""
    arguments = (getattr(patcher, "cached_patcher_init", None) or (None, ()))[1]
    source = arguments[0] if arguments else None
    if isinstance(source, (list, tuple)) and source:
        source = source[0]
    return Path(source).name if isinstance(source, (str, Path)) else type(patcher.model).__name__
