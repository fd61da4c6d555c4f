"""What the SPATIALFUSION socket carries: a checkpoint's two models under the host's memory management, its encoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import comfy.clip_vision
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import torch

from ...sf_model.checkpoint import Checkpoint, load_checkpoint
from ...sf_model.config import SpatialFusionConfig
from ...sf_model.models.depth_adapter import DepthAdapter
from ...sf_model.models.depth_predictor import DepthPredictor


@dataclass(frozen=True)
class SpatialFusionModel:
    """`decoder_path`: where the MLLM sits in `clip.cond_stage_model`. The patchers hold a DepthPredictor and a
    DepthAdapter. `clip_vision` is the source image's encoder, None without editing. `base_revision` and
    `base_fingerprint` say what the checkpoint was trained on."""

    config: SpatialFusionConfig
    clip: comfy.sd.CLIP
    decoder_path: str
    predictor: comfy.model_patcher.ModelPatcher
    adapter: comfy.model_patcher.ModelPatcher
    clip_vision: comfy.clip_vision.ClipVisionModel | None
    base_revision: str
    base_fingerprint: dict[str, str]


def build_patchers(path: Path, checkpoint: Checkpoint) -> tuple[comfy.model_patcher.ModelPatcher, ...]:
    """(predictor, adapter) of a checkpoint read from `path`, in the weights' own type, computing in the input's."""
    patchers = []
    for module_of, state_of in ((_predictor, Checkpoint.predictor_state), (_adapter, Checkpoint.adapter_state)):
        patcher = _build(module_of, checkpoint.config, state_of(checkpoint))
        patcher.cached_patcher_init = (partial(_reload, path, module_of, state_of), ())
        patchers.append(patcher)
    return tuple(patchers)


def _predictor(config: SpatialFusionConfig, dtype: torch.dtype, device: torch.device) -> DepthPredictor:
    return DepthPredictor(config, comfy.ops.manual_cast, dtype, device)


def _adapter(config: SpatialFusionConfig, dtype: torch.dtype, device: torch.device) -> DepthAdapter:
    return DepthAdapter(config.depth_adapter, comfy.ops.manual_cast, dtype, device)


def _reload(
    path: Path,
    module_of: Callable[..., torch.nn.Module],
    state_of: Callable[[Checkpoint], dict[str, torch.Tensor]],
    disable_dynamic: bool = False,
) -> comfy.model_patcher.ModelPatcher:
    checkpoint = load_checkpoint(path)
    return _build(module_of, checkpoint.config, state_of(checkpoint), disable_dynamic)


def _build(
    module_of: Callable[..., torch.nn.Module],
    config: SpatialFusionConfig,
    state: dict[str, torch.Tensor],
    disable_dynamic: bool = False,
) -> comfy.model_patcher.ModelPatcher:
    offload_device = comfy.model_management.unet_offload_device()
    dtype = next(iter(state.values())).dtype
    module = module_of(config, dtype, offload_device).eval().requires_grad_(False)
    # Dynamic VRAM replaces the class at start-up: it must be looked up now.
    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(
        module, load_device=comfy.model_management.get_torch_device(), offload_device=offload_device
    )
    module.load_state_dict(state, assign=patcher.is_dynamic())
    return patcher
