"""Reads the built-in base's files as the host reads model files."""

from __future__ import annotations

from pathlib import Path

import comfy.utils

from ...sf_model.backbones.mini import BaseWeights, load_base_weights


def read_base_weights(path: Path) -> BaseWeights:
    """The contents of a file, read as the host's --disable-mmap asks. ValueError if it is not one of the base's."""
    return load_base_weights(path, mmap=not comfy.utils.DISABLE_MMAP)
