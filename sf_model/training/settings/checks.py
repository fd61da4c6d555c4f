"""What the fields of a config file require of one another, beyond their types."""

from __future__ import annotations

from .fields import STAGE_NAMES, StageSettings, TrainingSettings, WorldSettings

SHARES = (
    ("depth", "flow"),
    ("depth", "prompt_dropout"),
    ("depth", "layout_dropout"),
    ("world", "edits"),
    ("documents", "answers"),
    ("documents", "prompt_dropout"),
    ("fusion", "true_depth"),
    ("diffusion", "caption_dropout"),
    ("diffusion", "depth_dropout"),
    ("diffusion", "joint_dropout"),
)
# The groups that each stage needs, besides its loop.
GROUPS = {
    "autoencoder": (),
    "language": ("documents",),
    "image": ("diffusion",),
    "source": (),
    "stage1": ("depth",),
    "stage2": ("diffusion", "depth", "fusion"),
}


def check_settings(settings: TrainingSettings) -> None:
    """ValueError with the field's path."""
    _check_parts(settings)
    for name in settings.stages:
        _check_stage(settings.stage(name), name, settings.data is None)
    _check_together(settings)


def _check_parts(settings: TrainingSettings) -> None:
    from_nothing = settings.base == "mini"
    for name, is_needed in (("weights", not from_nothing), ("spatial", not from_nothing), ("system", from_nothing)):
        if (getattr(settings, name) is not None) != is_needed:
            state = "is missing" if is_needed else "must be null"
            raise ValueError(f"config.{name} {state} for the base {settings.base!r}")
    if from_nothing != (settings.data is None):
        raise ValueError(
            "config.data must be null for the base 'mini', which learns from the synthetic world, and only for it"
        )
    if settings.system is not None and settings.system.tokenizer_captions < 1:
        raise ValueError("config.system.tokenizer_captions must be at least 1: the vocabulary is learned from them")
    if settings.data is not None and settings.data.validation_samples < 1:
        raise ValueError("config.data.validation_samples must be at least 1")
    unknown = sorted(set(settings.starts) - set(STAGE_NAMES))
    if unknown:
        raise ValueError(f"config.starts names stages that do not exist: {unknown}; choose of {STAGE_NAMES}")


def _check_stage(stage: StageSettings, name: str, from_world: bool) -> None:
    loop = stage.loop
    for field in ("steps", "batch_size", "micro_batch", "log_every", "save_every", "sheet_every"):
        if getattr(loop, field) < 1:
            raise ValueError(f"{name}.loop.{field} must be at least 1")
    if loop.batch_size % loop.micro_batch:
        raise ValueError(f"{name}.loop.micro_batch {loop.micro_batch} does not divide batch_size {loop.batch_size}")
    for group in ("diffusion", "depth", "fusion", "documents"):
        if (getattr(stage, group) is not None) != (group in GROUPS[name]):
            state = "is missing" if group in GROUPS[name] else "must be null"
            raise ValueError(f"{name}.{group} {state}")
    if (stage.world is not None) != from_world:
        raise ValueError(f"{name}.world {'is missing' if from_world else 'must be null where config.data is given'}")
    if stage.world is not None:
        _check_world(stage.world, name)
    for group, field in SHARES:
        value = getattr(getattr(stage, group), field, 0.0)
        if not 0 <= value <= 1:
            raise ValueError(f"{name}.{group}.{field} {value} is a share of the samples: from 0 to 1")


def _check_world(world: WorldSettings, name: str) -> None:
    if world.scenes < 0 or (world.scenes and world.has_edits):
        raise ValueError(
            f"{name}.world.scenes must not be negative. Above 0, set {name}.world.edits to 0: a fixed training "
            "set has no edits"
        )
    if world.validation_samples < 1:
        raise ValueError(f"{name}.world.validation_samples must be at least 1")


def _check_together(settings: TrainingSettings) -> None:
    """Check what a stage requires of the base and of the stages before it."""
    first, second = settings.stage1, settings.stage2
    for name in settings.stages:
        world = settings.stage(name).world
        if world is None:
            continue
        if name == "image" and world.has_edits:
            raise ValueError("image.world.edits must be 0: stage2 is the first that learns to see a source image")
        patch = settings.system.patch_px
        for sizes in (world.image_sizes, *([] if world.late is None else [world.late.image_sizes])):
            if not sizes or any(size < 1 or size % patch for size in sizes):
                raise ValueError(f"{name}.world.image_sizes {list(sizes)} must be multiples of {patch}")
        if world.has_edits and settings.source is None:
            raise ValueError(f"{name}.world.edits must be 0 without the stage 'source', which learns to see sources")
    if first is None or second is None or second.fusion.freeze_predictor:
        return
    if first.depth.flow > 0 and second.depth.flow == 0:
        raise ValueError(
            "stage2.depth.flow must be above 0, or stage2.fusion.freeze_predictor true: the flow that stage 1 trained "
            "would not fit the predictor any more"
        )
