"""The same training for a GPU, or tiny."""

from __future__ import annotations

from dataclasses import replace

from ..bases.sizes import smoke_sizes
from .fields import TrainingSettings

# Of `on_cuda`: how many times the samples of a step, and the processes that make captions and scenes.
CUDA_SAMPLES, CUDA_WORKERS = 8, 14


def on_cuda(settings: TrainingSettings) -> TrainingSettings:
    """The same training for one data-centre GPU: larger steps, compiled layers in bf16, pictures rendered there.

    A step of CUDA_SAMPLES times the samples needs about as long as a small one, which keeps no GPU busy. The rates
    stay.
    """
    if settings.system is None:
        raise ValueError("--cuda is for a base that is trained from scratch (configs/mini.yaml)")
    larger = {}
    for name in settings.stages:
        stage = settings.stage(name)
        size = stage.loop.batch_size * CUDA_SAMPLES
        loop = replace(
            stage.loop, batch_size=size, micro_batch=size, mixed_precision="bf16", compile=True, workers=CUDA_WORKERS
        )
        larger[name] = replace(stage, loop=loop, world=replace(stage.world, render_on="device"))
    return replace(settings, **larger)


def smoke(settings: TrainingSettings) -> TrainingSettings:
    """The same training, tiny: two steps of two samples a stage, networks of a few thousand weights."""
    if settings.system is None:
        raise ValueError("--smoke is for a base that is trained from scratch (configs/mini.yaml)")
    sizes, tiny = smoke_sizes(), {}
    for name in settings.stages:
        stage = settings.stage(name)
        loop = replace(
            stage.loop,
            steps=2,
            batch_size=2,
            micro_batch=2,
            warmup_steps=1,
            decay_steps=1,
            workers=0,
            log_every=1,
            save_every=2,
            sheet_every=2,
            compile=False,
            mixed_precision="no",
        )
        world = stage.world and replace(
            stage.world, image_sizes=(sizes.image_size,), validation_samples=2, length_buckets=1, late=None
        )
        tiny[name] = replace(stage, loop=loop, world=world)
    return replace(settings, system=sizes, **tiny)
