"""What a training of the Mini is made of, from the options of its command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace

from .arguments import MAX_OBJECTS
from .data.world import LANGUAGE_MIXTURE, PLAIN_MIXTURE, SPATIAL_MIXTURE, WorldDataConfig, caption_mixture
from .loop_config import LoopConfig
from .mini_sizes import SIZES, SOURCE_PATCH_PX
from .stages import StageConfig

MIXTURES: Mapping[str, Mapping[str, float]] = {
    "mllm": LANGUAGE_MIXTURE,
    "joint": SPATIAL_MIXTURE,
    "base": PLAIN_MIXTURE,
    "source": SPATIAL_MIXTURE,
    "stage1": SPATIAL_MIXTURE,
    "stage2": SPATIAL_MIXTURE,
}
VALIDATION_STREAM = "validation"
VALIDATION_BATCH = 64
# Images for each document without one, where the language model learns beside the others.
LANGUAGE_SHARE = {"base": 2, "joint": 4}
LENGTH_BUCKETS = 4


def _captions(arguments: argparse.Namespace) -> Mapping[str, float]:
    """Shares of the captions' kinds: the stage's own, or those asked for."""
    asked = (arguments.plain, arguments.view, arguments.free)
    if asked == (None, None, None):
        return MIXTURES[arguments.command]
    return caption_mixture(*(share or 0.0 for share in asked))


def data_config(arguments: argparse.Namespace) -> WorldDataConfig:
    """What a run learns from. ValueError for options that go not together."""
    stage = arguments.command
    mixed = (arguments.plain, arguments.view, arguments.free) != (None, None, None)
    if getattr(arguments, "scenes", 0) and (mixed or arguments.max_objects != MAX_OBJECTS):
        raise ValueError("--scenes is a fixed set: give none of --plain, --view, --free and --max-objects with it")
    return WorldDataConfig(
        image_sizes=arguments.image_sizes or (SIZES[arguments.size].image_size,),
        batch_size=arguments.batch_size,
        stream=stage,
        seed=arguments.seed,
        split="train",
        mixture=tuple(_captions(arguments).items()),
        max_objects=arguments.max_objects,
        language_batch=arguments.batch_size // LANGUAGE_SHARE.get(stage, arguments.batch_size + 1),
        supersample=arguments.supersample,
        length_buckets=LENGTH_BUCKETS,
        edits=getattr(arguments, "edits", 0.0),
        scenes=getattr(arguments, "scenes", 0),
        cell_px=SOURCE_PATCH_PX if stage == "source" else None,
    )


def loop_config(arguments: argparse.Namespace) -> LoopConfig:
    """How long a run learns, and how fast."""
    return LoopConfig(
        steps=arguments.steps,
        learning_rate=arguments.learning_rate,
        warmup_steps=arguments.warmup_steps,
        weight_decay=0.01,
        gradient_clip=1.0,
        ema_decay=arguments.ema_decay,
        seed=arguments.seed,
        log_every=arguments.log_every,
        save_every=arguments.save_every,
        sheet_every=arguments.sheet_every,
        workers=arguments.workers,
        mixed_precision=arguments.mixed_precision,
    )


def validation_config(data: WorldDataConfig, command: str) -> WorldDataConfig:
    """Held-out captions of the stage's own mixture, whatever the training's."""
    return replace(
        data,
        stream=VALIDATION_STREAM,
        split="held_out",
        batch_size=VALIDATION_BATCH,
        language_batch=0,
        length_buckets=1,
        mixture=tuple(MIXTURES[command].items()),
        max_objects=MAX_OBJECTS,
        image_sizes=data.image_sizes[:1],
        edits=0.0,
        scenes=0,
    )


def stage_config(arguments: argparse.Namespace) -> StageConfig:
    """What the stage's loss is made of; options that its command has not are as in `StageConfig`."""
    return StageConfig(
        time_mean=arguments.time_mean,
        time_std=arguments.time_std,
        freeze_mllm=getattr(arguments, "freeze_mllm", False),
        freeze_predictor=getattr(arguments, "freeze_predictor", False),
        true_depth=getattr(arguments, "true_depth", 0.0),
        depth_flow=getattr(arguments, "depth_flow", 0.0),
        depth_time_mean=getattr(arguments, "depth_time_mean", StageConfig().depth_time_mean),
        depth_dropout=getattr(arguments, "depth_dropout", StageConfig().depth_dropout),
        edits=getattr(arguments, "edits", 0.0),
        depth_draws=getattr(arguments, "depth_draws", 1),
    )
