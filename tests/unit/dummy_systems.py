"""Small untrained systems on disk, none of whose layers is zero as it would be at the start of a training."""

from __future__ import annotations

from pathlib import Path

import torch
from sf_model.training.tokenizer import train_tokenizer

from sf_model.training.export import export_system
from sf_model.training.mini_sizes import SystemSizes
from sf_model.training.system import SpatialFusionSystem


def export_untrained(directory: Path, sizes: SystemSizes, adapter: bool = True) -> None:
    """Write such a system, with a tokenizer of its own, as `training export` does; without
    `adapter` that part is as a base's."""
    train_tokenizer(directory / "tokenizer", sizes.decoder.vocab_size, seed=0, size=300)
    system = SpatialFusionSystem(sizes, seed=0)
    generator = torch.Generator().manual_seed(0)
    flow = system.predictor.depth_flow.parameters()
    adapted = system.adapter.parameters() if adapter else ()
    for parameter in (*system.transformer.parameters(), *adapted, *flow):
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    export_system(system, directory / "tokenizer", directory, "base-0", {}, dtype=torch.float32)
