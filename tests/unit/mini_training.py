"""A small training of the dummy system: settings, data and stages."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from sf_model.training.bases.mini import MiniBase
from sf_model.training.bases.prompts import PromptTokens
from sf_model.training.bases.sizes import smoke_sizes
from sf_model.training.data.documents import DocumentBatches
from sf_model.training.data.numbered import Share
from sf_model.training.data.world import WorldBatches, WorldStream
from sf_model.training.settings import (
    CaptionShares,
    LoopSettings,
    StageSettings,
    TrainingSettings,
    WorldSettings,
    load_settings,
    smoke,
)
from sf_model.training.stages import STAGES, Stage
from sf_model.training.system import System

DUMMY = smoke_sizes()
MINI_CONFIG = Path(__file__).resolve().parents[2] / "configs/mini.yaml"
# Captions alone, as web captions are; captions that fix their scene; some of every kind.
PLAIN, FREE = CaptionShares(1.0, 0.0, 0.0), CaptionShares(0.0, 0.0, 1.0)
SPATIAL = CaptionShares(plain=0.1, view=0.15, free=0.4)
CELL_PX = 8


@lru_cache
def mini_settings() -> TrainingSettings:
    """configs/mini.yaml as it is."""
    return load_settings(MINI_CONFIG)


def smoke_settings(runs: Path) -> TrainingSettings:
    """The same training, tiny, with its runs there."""
    return replace(smoke(mini_settings()), runs=str(runs))


def changed(settings: Any, **changes: Any) -> Any:
    """Nested settings with `group__field=value`, as deep as the names say."""
    for path, value in changes.items():
        group, _, rest = path.partition("__")
        settings = replace(settings, **{group: changed(getattr(settings, group), **{rest: value}) if rest else value})
    return settings


def stage_settings(name: str, **changes: Any) -> StageSettings:
    """A stage's settings of the smoke run, in float32. Unless `changes` say so, without a depth flow, with one draw of
    noise, and with a predictor that learns.
    """
    stage = smoke(mini_settings()).stage(name)
    if stage.depth is not None:
        stage = changed(stage, depth__flow=0.0, depth__draws=1, depth__layout_dropout=0.0)
    if stage.diffusion is not None:
        stage = changed(stage, diffusion__draws=1)
    if stage.fusion is not None:
        stage = changed(stage, fusion__true_depth=0.0, fusion__freeze_predictor=False)
    return changed(stage, **changes)


def loop_settings(steps: int) -> LoopSettings:
    """Four samples a step, a state every two."""
    loop = stage_settings("stage1").loop
    return replace(loop, steps=steps, batch_size=4, micro_batch=4, save_every=2, sheet_every=100)


def world_settings(captions: CaptionShares = SPATIAL, **changes: Any) -> WorldSettings:
    world = stage_settings("stage1").world
    assert world is not None
    return replace(world, captions=captions, edits=0.0, length_buckets=2, max_objects=4, **changes)


def world_batches(
    tokens: PromptTokens,
    captions: CaptionShares = SPATIAL,
    stream: WorldStream | None = None,
    share: Share | None = None,
    cell_px: int | None = None,
    **changes: Any,
) -> WorldBatches:
    """Four samples a step; `changes` are fields of WorldSettings."""
    settings = replace(world_settings(captions), **changes)
    return WorldBatches(settings, tokens, share or Share(4, 4), stream or WorldStream("test", 0, "train"), cell_px)


def batches_of(stage: str, tokens: PromptTokens, share: Share | None = None, **changes: Any) -> Any:
    """What a stage learns from, as `run.open_batches` chooses it."""
    if stage == "language":
        stream = WorldStream("language", 0, "train")
        documents, objects = stage_settings("language").documents, DUMMY.spatialfusion.layout.objects
        world = replace(world_settings(), **changes)
        return DocumentBatches(world, documents, tokens, objects, share or Share(4, 4), stream)
    captions = PLAIN if stage == "image" else SPATIAL
    cell_px = CELL_PX if stage == "source" else None
    return world_batches(tokens, captions, share=share, cell_px=cell_px, **changes)


def build_system(tokenizer_dir: Path, seed: int = 0) -> System:
    """Of random weights."""
    return System(MiniBase(DUMMY, tokenizer_dir, seed), DUMMY.spatialfusion, seed)


def build_stage(name: str, tokenizer_dir: Path, seed: int = 0, **changes: Any) -> Stage:
    """Of random weights; `changes` as `stage_settings` takes them."""
    return STAGES[name](build_system(tokenizer_dir, seed), stage_settings(name, **changes))
