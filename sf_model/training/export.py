"""Write the three files of a small system, with everything the loaders check in their metadata."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ..backbones.mini import DIT_FILE, MLLM_FILE, SPATIALFUSION_FILE, TOKENIZER_DIR, load_base_weights
from ..checkpoint import load_checkpoint, save_checkpoint
from .mini_sizes import SIZES, SystemSizes
from .run_state import load_average, load_system
from .system import SpatialFusionSystem


def averaged_system(state_dir: Path, system: SpatialFusionSystem) -> int:
    """Load a state's weights with the averages in place of the trained parameters; returns the state's step."""
    step = load_system(state_dir, system)
    parameters = dict(system.named_parameters())
    with torch.no_grad():
        for name, value in load_average(state_dir).items():
            parameters[name].copy_(value)
    return step


def export_system(
    system: SpatialFusionSystem,
    tokenizer_dir: Path,
    output_dir: Path,
    revision: str,
    training: dict[str, Any],
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """`revision` names the run that made the base; `training` is kept in the checkpoint as its summary."""
    output_dir.mkdir(parents=True, exist_ok=True)
    sizes = system.sizes
    decoder = {name: value for name, value in system.decoder.state_dict().items() if name != "lm_head.weight"}
    for filename, config, tensors in (
        (MLLM_FILE, sizes.decoder, decoder),
        (DIT_FILE, sizes.transformer, system.transformer.state_dict()),
    ):
        stored = {name: value.detach().to("cpu", dtype).contiguous() for name, value in tensors.items()}
        metadata = {"config": json.dumps(asdict(config)), "base_revision": revision}
        safetensors.torch.save_file(stored, output_dir / filename, metadata)
    save_checkpoint(
        output_dir / SPATIALFUSION_FILE,
        sizes.spatialfusion,
        system.predictor.state_dict(),
        system.adapter.state_dict(),
        base_revision=revision,
        training=training,
        dtype=dtype,
    )
    if tokenizer_dir.resolve() != (output_dir / TOKENIZER_DIR).resolve():
        shutil.copytree(tokenizer_dir, output_dir / TOKENIZER_DIR, dirs_exist_ok=True)


def load_exported(directory: Path) -> SpatialFusionSystem:
    """The inverse of `export_system`: the system in float32, in evaluation mode. ValueError for a foreign directory."""
    checkpoint = load_checkpoint(directory / SPATIALFUSION_FILE)
    sizes = _sizes_of(checkpoint.config.name)
    system = SpatialFusionSystem(sizes, seed=0).eval().requires_grad_(False)
    decoder = load_base_weights(directory / MLLM_FILE).state_dict
    # The output layer is tied to the embedding and not stored.
    decoder["lm_head.weight"] = decoder["model.embed_tokens.weight"]
    system.decoder.load_state_dict(decoder)
    system.transformer.load_state_dict(load_base_weights(directory / DIT_FILE).state_dict)
    system.predictor.load_state_dict(checkpoint.predictor_state())
    system.adapter.load_state_dict(checkpoint.adapter_state())
    return system


def _sizes_of(name: str) -> SystemSizes:
    if name not in SIZES:
        raise ValueError(f"{name!r} is not a size that this repository trains; known are {sorted(SIZES)}")
    return SIZES[name]
