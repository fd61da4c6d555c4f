"""Sample sheets of a system on held-out captions. They are taken in order, not chosen by their looks."""

from __future__ import annotations

import random
from pathlib import Path

from .. import world
from ..depth.colours import depth_picture
from ..files.picture_sheet import write_png
from .sampling import SystemSampler, rendered_depth

ROWS = 8
SCALE = 2


def write_sheet(sampler: SystemSampler, kind: str, seed: int, path: Path) -> list[str]:
    """Draw the first ROWS captions of a kind and return them, top to bottom.

    Columns: true image | true depth | mean depth | sampled depth | image generated from it. Checkpoints without a depth
    flow have no sampled depth; their image is generated from the mean.
    """
    rng = random.Random(f"sheet-{kind}-{seed}")
    items = [world.sample(rng, kind, "held_out") for _ in range(ROWS)]
    scenes, texts, numbers = [item.scene for item in items], [item.caption for item in items], list(range(ROWS))
    rendering = world.render(scenes, sampler.image_size, sampler.image_size)
    depths = [rendered_depth(rendering, scenes), sampler.predict_depth(texts)]
    if sampler.samples_depth:
        depths.append(sampler.sample_depth(texts, numbers, seed))
    image = sampler.draw(texts, depths[-1], sampler.noise(numbers, seed))
    write_png([rendering.rgb, *map(depth_picture, depths), image], path, SCALE)
    return texts
