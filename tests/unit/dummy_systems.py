"""Small untrained systems on disk, none of whose layers is zero as it would be at the start of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from sf_model.backbones.mini import TOKENIZER_DIR
from sf_model.training.bases.mini import MiniBase
from sf_model.training.bases.sizes import MiniSizes, smoke_sizes
from sf_model.training.bases.tokenizer import train_tokenizer
from sf_model.training.export import export_mini
from sf_model.training.system import System

DUMMY = smoke_sizes()


def without_sources(sizes: MiniSizes = DUMMY) -> MiniSizes:
    """The same sizes of a system that cannot edit."""
    spatial = replace(sizes.spatialfusion.spatial_transformer, source_feature_dim=None, source_at_queries=False)
    return replace(sizes, spatialfusion=replace(sizes.spatialfusion, spatial_transformer=spatial))


def untrained_system(directory: Path, sizes: MiniSizes, adapter: bool = True) -> System:
    """Such a system, whose tokenizer is written to the directory; without `adapter` that part is as a base's."""
    if not (directory / TOKENIZER_DIR).exists():
        train_tokenizer(directory / TOKENIZER_DIR, sizes, seed=0)
    system = System(MiniBase(sizes, directory / TOKENIZER_DIR, seed=0), sizes.spatialfusion, seed=0)
    generator = torch.Generator().manual_seed(0)
    adapted = system.adapter.parameters() if adapter else ()
    for parameter in (*system.base.transformer.parameters(), *adapted, *system.predictor.depth_flow.parameters()):
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return system


def export_untrained(directory: Path, sizes: MiniSizes, adapter: bool = True) -> None:
    """Write such a system, with a tokenizer of its own, as `training export` does."""
    system = untrained_system(directory, sizes, adapter)
    export_mini(system, directory / TOKENIZER_DIR, directory, "base-0", {}, dtype=torch.float32)
