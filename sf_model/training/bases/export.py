"""From a run's averages to the files that ComfyUI loads: the checkpoint, and the diffusion model or its LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ...backbones.revision import MLLM_WEIGHT, SAMPLES, fingerprint
from ...checkpoint import save_checkpoint
from ...files.atomic import written_whole
from ..export import without_untrained_flow
from ..run_state import load_average
from .base import PATCH_EMBEDDERS, Base
from .lora import host_lora, save_lora
from .settings import RunSettings
from .stages import BaseStage

TRANSFORMER_PREFIX = "base.transformer."


def base_fingerprint(base: Base, transformer_trained: bool) -> dict[str, str]:
    """Samples of the two models' weights, by which the nodes tell another release.

    transformer_trained: it is not any more as coarse as the file that it began with.
    """
    decoder, transformer = base.decoder_state(), base.transformer.state_dict()
    embedder = next(transformer[name] for name in PATCH_EMBEDDERS if name in transformer)
    samples = {"mllm": decoder[MLLM_WEIGHT], "transformer": embedder}
    eight_bit = {**base.eight_bit, **({"transformer": False} if transformer_trained else {})}
    return {name: fingerprint(value, eight_bit[name]) for name, value in samples.items() if value.numel() >= SAMPLES}


def export_stage(
    stage: BaseStage, state: Path, output: Path, name: str, revision: str, training: dict[str, Any], run: RunSettings
) -> list[Path]:
    """Write `<output>/spatialfusion/<name>.safetensors` and, from stage 2, `loras/` or `diffusion_models/` beside it.

    The fingerprint is of the transformer that the checkpoint belongs to: the base's, or the one trained in full.
    """
    stage.load_trained(load_average(state), str(state))
    paths = [output / "spatialfusion" / f"{name}.safetensors"]
    for folder in ("spatialfusion", "loras", "diffusion_models"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    config, predictor = without_untrained_flow(stage.config, stage.predictor.state_dict())
    save_checkpoint(
        paths[0],
        config,
        predictor,
        stage.adapter.state_dict(),
        base_revision=revision,
        training=training,
        dtype=torch.bfloat16,
        base_fingerprint=base_fingerprint(stage.base, stage.name == "stage2" and run.lora_rank is None),
    )
    if stage.name == "stage1":
        return paths
    if run.lora_rank is not None:
        trained = {
            key.removeprefix(TRANSFORMER_PREFIX): value
            for key, value in stage.trainable_parameters().items()
            if key.startswith(TRANSFORMER_PREFIX)
        }
        paths.append(output / "loras" / f"{name}_lora.safetensors")
        save_lora(paths[1], host_lora(trained, run.lora_alpha, torch.bfloat16), revision)
        return paths
    paths.append(output / "diffusion_models" / f"{name}_diffusion_model.safetensors")
    tensors = stage.base.transformer_file()
    stored = {key: value.detach().to("cpu", torch.bfloat16).contiguous() for key, value in tensors.items()}
    with written_whole(paths[1]) as partial:
        safetensors.torch.save_file(stored, partial, {"spatialfusion_base_revision": revision})
    return paths
