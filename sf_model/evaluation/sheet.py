"""Sample sheets of a system on held-out captions, taken in order: none is chosen by its looks."""

from __future__ import annotations

from pathlib import Path

from ..training.data.world import WorldBatches, WorldDataConfig
from ..training.sheets import SHEET_ROWS, save_sheet
from ..training.stages import FusionStage, StageConfig
from ..training.system import SpatialFusionSystem
from ..training.tokenizer import encode_prompts, load_tokenizer


def write_sheet(system: SpatialFusionSystem, tokenizer_dir: Path, kind: str, seed: int, path: Path) -> list[str]:
    """Draw the first SHEET_ROWS captions of a kind and return them, top to bottom.

    Columns: true image | true depth | mean depth | sampled depth | image generated from it; checkpoints without a depth
    flow sample none, and draw from the mean.
    """
    data = WorldDataConfig(
        image_sizes=(system.sizes.image_size,),
        batch_size=SHEET_ROWS,
        stream="evaluation",
        seed=seed,
        split="held_out",
        mixture=((kind, 1.0),),
        language_batch=0,
        supersample=1,
        length_buckets=1,
        max_objects=4,
    )
    batches = WorldBatches(data, tokenizer_dir)
    empty_ids, _ = encode_prompts(load_tokenizer(tokenizer_dir), [""])
    config = StageConfig(depth_flow=0.0 if system.predictor.depth_flow is None else 1.0)
    save_sheet(FusionStage(system, config, empty_ids), batches[0], path)
    return [item.caption for item in batches.captioned(0)]
