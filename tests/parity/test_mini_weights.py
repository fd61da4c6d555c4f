"""The built-in base's files are read as the host's --disable-mmap asks."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import comfy.utils
import pytest

from sf_model.backbones.mini import DIT_FILE, MINI_DIR


@pytest.mark.parametrize("disabled", [False, True])
def test_without_mmap_the_weights_do_not_need_the_file(
    nodes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disabled: bool
) -> None:
    """A mapped file that is cut off kills the process where it is read, so that this one is overwritten instead."""
    path = tmp_path / DIT_FILE
    shutil.copy(MINI_DIR / DIT_FILE, path)
    monkeypatch.setattr(comfy.utils, "DISABLE_MMAP", disabled)
    weights = nodes.mini.weights.read_base_weights(path)
    with path.open("r+b") as stream:
        stream.write(bytes(path.stat().st_size))
    assert all(bool(value.any()) for value in weights.state_dict.values()) == disabled


def test_every_loader_of_the_base_reads_so(nodes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []
    original = nodes.mini.weights.load_base_weights

    def load(path: Path, mmap: bool = True) -> object:
        asked.append((path.name, mmap))
        return original(path, mmap)

    monkeypatch.setattr(nodes.mini.weights, "load_base_weights", load)
    monkeypatch.setattr(comfy.utils, "DISABLE_MMAP", True)
    nodes.SpatialFusionMiniLoader.execute()
    assert {mmap for _, mmap in asked} == {False}
    assert len(asked) >= 2
