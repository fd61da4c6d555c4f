"""Write the three files of a small system, with everything the loaders check in their metadata."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ..backbones.mini import DIT_FILE, MLLM_FILE, SPATIALFUSION_FILE, TOKENIZER_DIR, load_base_weights
from ..checkpoint import load_checkpoint, save_checkpoint
from ..config import SpatialFusionConfig
from ..files.atomic import written_whole
from .mini_sizes import SIZES, SystemSizes
from .run_state import latest_state, load_average, load_system
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
        with written_whole(output_dir / filename) as partial:
            safetensors.torch.save_file(stored, partial, metadata)
    config, predictor = without_untrained_flow(sizes.spatialfusion, system.predictor.state_dict())
    save_checkpoint(
        output_dir / SPATIALFUSION_FILE,
        config,
        predictor,
        system.adapter.state_dict(),
        base_revision=revision,
        training=training,
        dtype=dtype,
    )
    if tokenizer_dir.resolve() != (output_dir / TOKENIZER_DIR).resolve():
        shutil.copytree(tokenizer_dir, output_dir / TOKENIZER_DIR, dirs_exist_ok=True)


def without_untrained_flow(
    config: SpatialFusionConfig, predictor: dict[str, torch.Tensor]
) -> tuple[SpatialFusionConfig, dict[str, torch.Tensor]]:
    """A predictor that was trained for the mean alone has no depth flow to offer: its input is still all zeros."""
    patch = predictor.get("depth_flow.patch.weight")
    if patch is None or patch.count_nonzero():
        return config, predictor
    kept = {name: value for name, value in predictor.items() if not name.startswith("depth_flow.")}
    return replace(config, depth_flow=None), kept


def load_exported(directory: Path) -> SpatialFusionSystem:
    """The inverse of `export_system`: the system in float32, in evaluation mode. ValueError for a foreign directory."""
    system = SpatialFusionSystem(exported_sizes(directory), seed=0).eval().requires_grad_(False)
    for name, part in system.named_children():
        part.load_state_dict(_exported_part(name, directory))
    return system


def exported_sizes(directory: Path) -> SystemSizes:
    """Of the system in such a directory. ValueError for a foreign one."""
    config = load_checkpoint(directory / SPATIALFUSION_FILE).config
    if config.name not in SIZES:
        raise ValueError(f"{config.name!r} is not a size that this repository trains; known are {sorted(SIZES)}")
    return replace(SIZES[config.name], spatialfusion=config)


def part_state_dict(name: str, directory: Path) -> dict[str, torch.Tensor]:
    """Weights of one part of the system (decoder, transformer, predictor or adapter) from an exported directory, or the
    averaged ones from the last state of a run's. ValueError if the directory is neither."""
    if (directory / SPATIALFUSION_FILE).exists():
        return _exported_part(name, directory)
    state = latest_state(directory)
    if state is None:
        raise ValueError("it holds neither exported weights nor a run's saved state")
    tensors = safetensors.torch.load_file(state / "system.safetensors")
    tensors.update(load_average(state))
    prefix = f"{name}."
    part = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return _with_output_layer(part) if name == "decoder" else part


def _exported_part(name: str, directory: Path) -> dict[str, torch.Tensor]:
    if name == "decoder":
        return _with_output_layer(load_base_weights(directory / MLLM_FILE).state_dict)
    if name == "transformer":
        return load_base_weights(directory / DIT_FILE).state_dict
    checkpoint = load_checkpoint(directory / SPATIALFUSION_FILE)
    return checkpoint.predictor_state() if name == "predictor" else checkpoint.adapter_state()


def _with_output_layer(decoder: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The output layer is tied to the embedding: a file holds one of the two names."""
    embedding, output = "model.embed_tokens.weight", "lm_head.weight"
    value = decoder.get(embedding, decoder.get(output))
    return {**decoder, embedding: value, output: value}
