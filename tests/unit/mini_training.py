"""A small training of the dummy system: data, stages and loop."""

from pathlib import Path

from sf_model.training.tokenizer import encode_prompts, load_tokenizer

from sf_model.training.data.world import WorldDataConfig
from sf_model.training.loop import LoopConfig
from sf_model.training.mini_sizes import SIZES
from sf_model.training.stages import STAGES, Stage, StageConfig
from sf_model.training.system import SpatialFusionSystem

DUMMY = SIZES["dummy"]


def data_config(mixture: dict[str, float], language_batch: int = 0) -> WorldDataConfig:
    return WorldDataConfig(
        image_sizes=(DUMMY.image_size,),
        batch_size=4,
        stream="test",
        seed=0,
        split="train",
        mixture=tuple(mixture.items()),
        language_batch=language_batch,
        supersample=1,
        length_buckets=2,
        max_objects=4,
    )


def build_stage(name: str, tokenizer_dir: Path, seed: int = 0, config: StageConfig | None = None) -> Stage:
    empty_ids, _ = encode_prompts(load_tokenizer(tokenizer_dir), [""])
    return STAGES[name](SpatialFusionSystem(DUMMY, seed), config or StageConfig(), empty_ids)


def loop_config(steps: int) -> LoopConfig:
    return LoopConfig(
        steps=steps,
        learning_rate=1e-3,
        warmup_steps=2,
        weight_decay=0.01,
        gradient_clip=1.0,
        ema_decay=0.9,
        seed=0,
        log_every=1,
        save_every=2,
        sheet_every=100,
        workers=0,
        mixed_precision="bf16",
    )
