"""What the SPATIALFUSION socket carries: a checkpoint's networks, as the host manages them, and its encoders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import comfy.clip_vision
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import torch

from ...sf_model.backbones import Backbone, get_backbone
from ...sf_model.checkpoint import Checkpoint, load_checkpoint
from ...sf_model.config import SpatialFusionConfig
from ...sf_model.models.depth_adapter import DepthAdapter
from ...sf_model.models.depth_predictor import DepthPredictor
from ...sf_model.models.pixel_encoder import own_patch_px
from .text_decoder import find_decoder


@dataclass(frozen=True)
class SpatialFusionModel:
    """A checkpoint with the text encoder that it reads."""

    config: SpatialFusionConfig
    # The base that the checkpoint was trained for.
    backbone: Backbone
    clip: comfy.sd.CLIP
    # Where the language model is in `clip.cond_stage_model`.
    decoder_path: str
    # Holds a DepthPredictor.
    predictor: comfy.model_patcher.ModelPatcher
    # Holds a DepthAdapter.
    adapter: comfy.model_patcher.ModelPatcher
    # The encoder of source images. None where none is connected.
    clip_vision: comfy.clip_vision.ClipVisionModel | None
    # The side of a patch of the source image, for a checkpoint that reads these itself. None for one that needs DINOv2.
    source_patch_px: int | None
    # The release of the base that the checkpoint was trained on.
    base_revision: str
    # Samples of that release's weights: "mllm" and "transformer", each only where the checkpoint keeps it.
    base_fingerprint: dict[str, str]


@dataclass(frozen=True)
class LoadedFile:
    """A checkpoint's file, loaded. It may be beside any CLIP of its base."""

    # Without the tensors.
    contents: Checkpoint
    predictor: comfy.model_patcher.ModelPatcher
    adapter: comfy.model_patcher.ModelPatcher


def load_beside(
    clip: comfy.sd.CLIP,
    checkpoint: Checkpoint,
    path: Path,
    name: str,
    clip_vision: comfy.clip_vision.ClipVisionModel | None = None,
) -> SpatialFusionModel:
    """`load_file` and `beside` in one."""
    return beside(clip, load_file(clip, checkpoint, path, name), name, clip_vision)


def load_file(clip: comfy.sd.CLIP, checkpoint: Checkpoint, path: Path, name: str) -> LoadedFile:
    """The contents of the file `path`, which the user knows as `name`.

    ValueError, with the remedy, where the CLIP is not the checkpoint's: before anything is built.
    """
    find_decoder(clip, checkpoint.config, get_backbone(checkpoint.config.backbone), name)
    predictor, adapter = build_patchers(path, checkpoint)
    return LoadedFile(replace(checkpoint, state_dict={}), predictor, adapter)


def beside(
    clip: comfy.sd.CLIP,
    loaded: LoadedFile,
    name: str,
    clip_vision: comfy.clip_vision.ClipVisionModel | None = None,
) -> SpatialFusionModel:
    """A loaded file, which the user knows as `name`, beside this CLIP. ValueError where the CLIP is not its base's."""
    contents = loaded.contents
    backbone = get_backbone(contents.config.backbone)
    return SpatialFusionModel(
        config=contents.config,
        backbone=backbone,
        clip=clip,
        decoder_path=find_decoder(clip, contents.config, backbone, name),
        predictor=loaded.predictor,
        adapter=loaded.adapter,
        clip_vision=clip_vision,
        source_patch_px=own_patch_px(contents.config),
        base_revision=contents.base_revision,
        base_fingerprint=contents.base_fingerprint,
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """The contents of a file, read as the host's --disable-mmap asks. CheckpointError."""
    return load_checkpoint(path, mmap=not comfy.utils.DISABLE_MMAP)


def build_patchers(
    path: Path, checkpoint: Checkpoint
) -> tuple[comfy.model_patcher.ModelPatcher, comfy.model_patcher.ModelPatcher]:
    """(predictor, adapter) of a checkpoint that was read from `path`.

    The weights keep their type; the networks compute in the type of their input.
    """
    return (
        _reloadable(path, checkpoint, _predictor, Checkpoint.predictor_state),
        _reloadable(path, checkpoint, _adapter, Checkpoint.adapter_state),
    )


def _reloadable(
    path: Path,
    checkpoint: Checkpoint,
    module_of: Callable[..., torch.nn.Module],
    state_of: Callable[[Checkpoint], dict[str, torch.Tensor]],
) -> comfy.model_patcher.ModelPatcher:
    """A patcher that the host can make again from the file: for another device, or without dynamic VRAM."""
    patcher = _build(module_of, checkpoint.config, state_of(checkpoint))
    patcher.cached_patcher_init = (partial(_reload, path, module_of, state_of), ())
    return patcher


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
    checkpoint = read_checkpoint(path)
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
    # Looked up only now: dynamic VRAM replaces the class at the start of the host.
    patcher_class = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(
        module, load_device=comfy.model_management.get_torch_device(), offload_device=offload_device
    )
    module.load_state_dict(state, assign=patcher.is_dynamic())
    return patcher
