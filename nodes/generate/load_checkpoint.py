"""Load SpatialFusion MLLM+MoT: a checkpoint beside the text encoder that it was trained with."""

from __future__ import annotations

from pathlib import Path

import comfy.clip_vision
import comfy.sd
import folder_paths
from comfy_api.v0_0_2 import io

from ...sf_model.backbones.mini import MINI_DIR, SPATIALFUSION_FILE
from ...sf_model.backbones.revision import MLLM_WEIGHT
from ...sf_model.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from ...sf_model.config import SpatialFusionConfig
from ...sf_model.models.pixel_encoder import own_patch_px
from ..host.notices import warn
from ..inputs import CATEGORY, SpatialFusion
from ..runtime.base_revision import revision_warning
from ..runtime.loaded_checkpoint import SpatialFusionModel, build_patchers
from ..runtime.text_decoder import find_decoder

FOLDER = "spatialfusion"
BUILT_IN = "SpatialFusion-Mini (built-in)"
# What the host calls the kind of image encoder that checkpoints are trained with.
DINOV2 = "dinov2"

folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


def _checkpoint_names() -> list[str]:
    names = folder_paths.get_filename_list(FOLDER)
    return [BUILT_IN, *(name for name in names if name.lower().endswith(".safetensors"))]


def _checkpoint_path(name: str) -> Path:
    if name == BUILT_IN:
        return MINI_DIR / SPATIALFUSION_FILE
    return Path(folder_paths.get_full_path_or_raise(FOLDER, name))


def _read_checkpoint(name: str) -> Checkpoint:
    """The checkpoint's contents. CheckpointError; for the built-in one a ValueError whose remedy is the pack's."""
    path = _checkpoint_path(name)
    try:
        return load_checkpoint(path)
    except CheckpointError as error:
        if name != BUILT_IN:
            raise
        raise ValueError(f"{path}: the built-in checkpoint is missing or damaged; install the pack again") from error


def _check_clip_vision(
    clip_vision: comfy.clip_vision.ClipVisionModel, config: SpatialFusionConfig, checkpoint_name: str
) -> None:
    expected = config.spatial_transformer.source_feature_dim
    found, kind = clip_vision.config.get("hidden_size"), clip_vision.config.get("model_type")
    if expected is None:
        raise ValueError(
            f"checkpoint {checkpoint_name!r} was trained without source images; disconnect clip_vision, or choose a "
            "checkpoint trained for editing"
        )
    if own_patch_px(config) is not None:
        raise ValueError(
            f"checkpoint {checkpoint_name!r} reads source images itself and needs no encoder; disconnect clip_vision"
        )
    # CLIP's own ViT-L is as wide as DINOv2 large, and its features would say nothing to the checkpoint.
    if found != expected or kind != DINOV2:
        raise ValueError(
            f"checkpoint {checkpoint_name!r} reads image features of {DINOV2} with {expected} channels, this "
            f"CLIP_VISION ({kind}) gives {found}; load the DINOv2 model that it was trained with"
        )


class SpatialFusionLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionLoader",
            display_name="Load SpatialFusion MLLM+MoT",
            category=CATEGORY,
            description=(
                "Loads a SpatialFusion checkpoint (spatial transformer, depth head and depth adapter) beside the text "
                "encoder that it was trained with. Checkpoints go to models/spatialfusion."
            ),
            search_aliases=["spatialfusion", "spatial transformer", "mixture of transformers", "depth", "mllm"],
            inputs=[
                io.Clip.Input(
                    "clip",
                    tooltip="The text encoder that the checkpoint was trained with, from any loader, LoRAs included.",
                ),
                io.Combo.Input(
                    "checkpoint",
                    options=_checkpoint_names(),
                    default=BUILT_IN,
                    tooltip="A .safetensors file in models/spatialfusion, or the small one that comes with the pack.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip=(
                        "DINOv2, the encoder of source images, for large checkpoints that were trained for editing; "
                        "the Mini needs none."
                    ),
                ),
            ],
            outputs=[
                SpatialFusion.Output(
                    display_name="spatialfusion", tooltip="For Predict Metric Depth and Depth Adapter Apply."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(
        cls,
        checkpoint: str,
        clip: comfy.sd.CLIP | None = None,
        clip_vision: comfy.clip_vision.ClipVisionModel | None = None,
    ) -> str:
        """Changes with the file, so that one written again is read again."""
        stat = _checkpoint_path(checkpoint).stat()
        return f"{checkpoint} {stat.st_size} {stat.st_mtime_ns}"

    @classmethod
    def execute(
        cls, clip: comfy.sd.CLIP, checkpoint: str, clip_vision: comfy.clip_vision.ClipVisionModel | None = None
    ) -> io.NodeOutput:
        contents = _read_checkpoint(checkpoint)
        decoder_path = find_decoder(clip, contents.config, checkpoint)
        warning = revision_warning(
            "CLIP",
            clip.patcher,
            f"{decoder_path}.{MLLM_WEIGHT}",
            contents.base_revision,
            contents.base_fingerprint.get("mllm"),
        )
        if clip_vision is not None:
            _check_clip_vision(clip_vision, contents.config, checkpoint)
        predictor, adapter = build_patchers(_checkpoint_path(checkpoint), contents)
        loaded = SpatialFusionModel(
            contents.config,
            clip,
            decoder_path,
            predictor,
            adapter,
            clip_vision,
            contents.base_revision,
            contents.base_fingerprint,
        )
        return io.NodeOutput(loaded, ui=warn(cls, warning))
