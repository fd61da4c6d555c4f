"""In the real host: how long a loaded checkpoint is kept, and the pictures of a depth that forms."""

from __future__ import annotations

import gc
import weakref
from types import ModuleType
from typing import Any

import comfy.model_management
import comfy.utils
import pytest

PROMPT = "a red car 4.0 m away"


def load(nodes: ModuleType, clip: Any) -> Any:
    return nodes.SpatialFusionLoader.execute(clip, nodes.generate.load_checkpoint.BUILT_IN).args[0]


def test_clones_of_a_clip_share_a_loaded_file_and_it_goes_with_the_encoder(nodes: ModuleType) -> None:
    clip = nodes.SpatialFusionMiniLoader.execute().args[1]
    first, second = load(nodes, clip), load(nodes, clip.clone())
    assert second.predictor is first.predictor and second.adapter is first.adapter
    assert second.clip is not first.clip and second.config == first.config
    other = load(nodes, nodes.SpatialFusionMiniLoader.execute().args[1])
    assert other.predictor is not first.predictor, "another encoder has its own"
    gone = [weakref.ref(first.predictor), weakref.ref(clip.cond_stage_model)]
    del first, second, clip
    comfy.model_management.cleanup_models_gc()
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_one_encoder_keeps_one_file(nodes: ModuleType) -> None:
    clip = nodes.SpatialFusionMiniLoader.execute().args[1]
    kept = nodes.runtime.kept_files.kept_beside
    loads: list[str] = []

    def load_as(name: str) -> Any:
        return kept(clip, name, lambda: loads.append(name) or object())

    assert load_as("a") is load_as("a")
    load_as("b")
    load_as("a")
    assert loads == ["a", "b", "a"]
    with pytest.raises(ValueError, match="damaged"):
        kept(clip, "c", fail)
    load_as("a")
    assert loads == ["a", "b", "a", "a"], "nothing is kept of a file that could not be loaded"


def fail() -> Any:
    raise ValueError("damaged")


def predicted(nodes: ModuleType, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[tuple[int, int, Any]]:
    """What the host's hook got in one run: (value, total, preview)."""
    calls: list[tuple[int, int, Any]] = []
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, preview, **_: calls.append((value, total, preview))
    )
    model = load(nodes, nodes.SpatialFusionMiniLoader.execute().args[1])
    nodes.SpatialFusionPredictDepth.execute(model, PROMPT, 64, 48, **options)
    return calls


def test_the_depth_forms_step_by_step(nodes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = predicted(nodes, monkeypatch, steps=3, batch_size=2)
    pictures = [preview for _, _, preview in calls if preview is not None]
    assert len(pictures) == 2 * 3
    assert {(kind, picture.size) for kind, picture, _ in pictures} == {("JPEG", (64, 48))}
    assert len({picture.tobytes() for _, picture, _ in pictures}) == len(pictures)
    values = [value for value, _, _ in calls]
    assert values == sorted(values) and values[-1] == calls[-1][1], "one bar for the whole batch"
    assert predicted(nodes, monkeypatch, mode="mean")[-1][2] is None


def test_the_setting_that_hides_depth_hides_it_while_it_forms(
    nodes: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes.generate.predict, "shows_depth", lambda: False)
    calls = predicted(nodes, monkeypatch, steps=2)
    assert calls and all(preview is None for _, _, preview in calls)
