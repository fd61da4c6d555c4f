"""What a node with a depth writes to the host's temp folder, and what the viewer is told about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import folder_paths
import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The host's folders for temporary files and for users, both new."""
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    (tmp_path / "temp").mkdir()
    yield tmp_path / "temp"


def random_depth(nodes: ModuleType, batch: int, height: int, width: int) -> Any:
    depth = torch.rand(batch, height, width, generator=torch.Generator().manual_seed(0)) * 9 + 1
    confidence = torch.ones_like(depth)
    confidence[1:] = 0.5
    return nodes.host.preview.MetricDepth(depth, confidence, torch.linspace(40, 60, batch))


def show(nodes: ModuleType, depth: Any, **options: Any) -> dict[str, Any]:
    return nodes.host.preview.depth_preview_ui(depth, nodes.SpatialFusionAdjustDepth, **options)


def test_a_preview_has_four_images_of_exact_pixels(nodes: ModuleType, temp: Path) -> None:
    """Of 2100 x 30 pixels every third, beginning with the second: 700 x 10."""
    depth = random_depth(nodes, 6, 30, 2100)
    shown = show(nodes, depth)
    assert len(shown["images"]) == len(shown["spatialfusion_depth"]) == 4
    for index, entry in enumerate(shown["spatialfusion_depth"]):
        array = np.load(temp / entry["filename"])
        assert array.shape == ((1 if index == 0 else 2), 10, 700)
        assert (array[0] == depth.depth[index, 1::3, 1::3].numpy()).all()
        size = {"width": 700, "height": 10, "step": 3, "full_width": 2100, "full_height": 30, "batch": 6}
        assert entry.items() >= size.items()
        assert entry["fov_y_deg"] == pytest.approx(float(depth.fov_y_deg[index]))
    with Image.open(temp / shown["images"][3]["filename"]) as picture:
        pixels = np.asarray(picture)
    expected = nodes.host.images.depth_colours(depth)[3, 1::3, 1::3]
    assert np.abs(pixels / 255 - expected.numpy()).max() < 1 / 255
    given = nodes.host.images.depth_colours(depth)
    with Image.open(temp / show(nodes, depth, picture=given)["images"][3]["filename"]) as picture:
        assert (np.asarray(picture) == pixels).all()


def test_a_thin_image_keeps_a_row(nodes: ModuleType, temp: Path) -> None:
    """Every sixteenth pixel would begin with the eighth row, and there are three."""
    depth = random_depth(nodes, 1, 3, 16000)
    (entry,) = show(nodes, depth)["spatialfusion_depth"]
    assert (np.load(temp / entry["filename"])[0] == depth.depth[0, 2:, 8::16].numpy()).all()


def test_the_whole_depth_is_there_where_it_is_inspected(nodes: ModuleType, temp: Path) -> None:
    depth = random_depth(nodes, 6, 30, 2100)
    shown = show(nodes, depth, whole=True)
    assert len(shown["images"]) == 4
    arrays = [np.load(temp / entry["filename"])[0] for entry in shown["spatialfusion_depth"]]
    assert (np.stack(arrays) == depth.depth.numpy()).all()
    assert {(entry["step"], entry["width"]) for entry in shown["spatialfusion_depth"]} == {(1, 2100)}


@pytest.mark.parametrize("content", ['{"SpatialFusion.ShowDepth": true}', "{", "[]", "", "[" * 100_000])
def test_previews_are_on_unless_they_are_switched_off(nodes: ModuleType, temp: Path, content: str) -> None:
    settings = temp.parent / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(content, encoding="utf-8")
    depth = random_depth(nodes, 1, 8, 8)
    assert show(nodes, depth)
    settings.write_text(json.dumps({"SpatialFusion.ShowDepth": False}), encoding="utf-8")
    before = sorted(temp.iterdir())
    assert show(nodes, depth) == {}
    assert sorted(temp.iterdir()) == before
    assert show(nodes, depth, whole=True)


def test_the_oldest_files_go_when_they_are_too_many(nodes: ModuleType, temp: Path) -> None:
    files = nodes.host.temp_files.BoundedFiles(max_bytes=250)

    def add(*sizes: int) -> list[Path]:
        names = [temp / f"{len(list(temp.iterdir()))}-{place}-{size}" for place, size in enumerate(sizes)]
        for name, size in zip(names, sizes):
            name.write_bytes(bytes(size))
        files.add(names)
        return names

    first, second = add(100), add(100)
    second[0].unlink()  # as the host does at its start
    third = add(100, 40)
    assert not first[0].exists() and all(path.exists() for path in third)
    large = add(400)
    assert sorted(temp.iterdir()) == large, "what was just written stays, whatever its size"


def test_nodes_that_ran_often_leave_a_bounded_folder(
    nodes: ModuleType, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 previews of 64 KiB each, and their pictures."""
    monkeypatch.setattr(nodes.host.preview, "_FILES", nodes.host.temp_files.BoundedFiles(max_bytes=2**20))
    depth = random_depth(nodes, 1, 128, 128)
    for _ in range(100):
        show(nodes, depth)
    assert sum(path.stat().st_size for path in temp.iterdir()) <= 2**20
