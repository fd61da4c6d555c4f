"""Exports the averaged weights to the files that ComfyUI loads: the checkpoint, and the trained base or LoRA."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ..backbones.mini import SPATIALFUSION_FILE, TOKENIZER_DIR
from ..checkpoint import load_checkpoint, save_checkpoint
from ..config import SpatialFusionConfig
from ..files.atomic import written_whole
from .bases.lora import host_lora, is_lora, save_lora
from .bases.mini import MiniBase, load_mini
from .bases.released import ReleasedBase
from .settings import FusionSettings
from .system import System


def export_mini(
    system: System,
    tokenizer_dir: Path,
    output: Path,
    revision: str,
    training: dict[str, Any],
    dtype: torch.dtype = torch.bfloat16,
) -> list[Path]:
    """A folder that *Load SpatialFusion Mini* reads: both models of the base, the tokenizer and the checkpoint.

    revision: names the run that made the base. training: the summary that the checkpoint keeps.
    """
    base = system.base
    if not isinstance(base, MiniBase):
        raise ValueError("only the Mini is exported as a folder")
    output.mkdir(parents=True, exist_ok=True)
    paths = [*base.save(output, revision, dtype), output / SPATIALFUSION_FILE]
    _save_checkpoint(system, paths[-1], revision, training, {}, dtype)
    if tokenizer_dir.resolve() != (output / TOKENIZER_DIR).resolve():
        shutil.copytree(tokenizer_dir, output / TOKENIZER_DIR, dirs_exist_ok=True)
    return paths


def load_exported(folder: Path) -> System:
    """The inverse of `export_mini`: the system in float32, in evaluation mode. ValueError for any other folder."""
    checkpoint = load_checkpoint(folder / SPATIALFUSION_FILE)
    system = System(load_mini(folder, checkpoint.config), checkpoint.config, seed=0)
    system.predictor.load_state_dict(checkpoint.predictor_state())
    system.adapter.load_state_dict(checkpoint.adapter_state())
    return system.eval().requires_grad_(False)


def export_beside_base(
    system: System, output: Path, name: str, revision: str, training: dict[str, Any], fusion: FusionSettings | None
) -> list[Path]:
    """Write `<output>/spatialfusion/<name>.safetensors`; for stage 2 also a file in `loras/` or `diffusion_models/`.

    fusion: settings of the exported stage; None for stage 1. The checkpoint keeps the fingerprint of the transformer
    that it belongs to: the base's, or the one that was trained in full.
    """
    base = system.base
    if not isinstance(base, ReleasedBase):
        raise ValueError("only a released base is exported beside its own files")
    paths = [output / "spatialfusion" / f"{name}.safetensors"]
    for folder in ("spatialfusion", "loras", "diffusion_models"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    is_full = fusion is not None and fusion.lora_rank is None
    _save_checkpoint(system, paths[0], revision, training, base.fingerprints(is_full), torch.bfloat16)
    if fusion is None:
        return paths
    if fusion.lora_rank is not None:
        lora = {key: value for key, value in base.transformer.named_parameters() if is_lora(key)}
        paths.append(output / "loras" / f"{name}_lora.safetensors")
        save_lora(paths[1], host_lora(lora, fusion.lora_alpha, torch.bfloat16), revision)
        return paths
    paths.append(output / "diffusion_models" / f"{name}_diffusion_model.safetensors")
    tensors = base.transformer_file()
    stored = {key: value.detach().to("cpu", torch.bfloat16).contiguous() for key, value in tensors.items()}
    with written_whole(paths[1]) as partial:
        safetensors.torch.save_file(stored, partial, {"spatialfusion_base_revision": revision})
    return paths


def _save_checkpoint(
    system: System,
    path: Path,
    revision: str,
    training: dict[str, Any],
    fingerprints: dict[str, str],
    dtype: torch.dtype,
) -> None:
    config, predictor = without_untrained_flow(system.config, system.predictor.state_dict())
    save_checkpoint(
        path,
        config,
        predictor,
        system.adapter.state_dict(),
        base_revision=revision,
        # JSON values only: they go into the file's metadata.
        training=json.loads(json.dumps(training)),
        dtype=dtype,
        base_fingerprint=fingerprints,
    )


def without_untrained_flow(
    config: SpatialFusionConfig, predictor: dict[str, torch.Tensor]
) -> tuple[SpatialFusionConfig, dict[str, torch.Tensor]]:
    """Drop a depth flow that was never trained: its input weights are still all zeros."""
    patch = predictor.get("depth_flow.patch.weight")
    if patch is None or patch.count_nonzero():
        return config, predictor
    kept = {name: value for name, value in predictor.items() if not name.startswith("depth_flow.")}
    return replace(config, depth_flow=None), kept
