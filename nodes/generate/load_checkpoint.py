"""Load SpatialFusion MLLM+MoT: loads a checkpoint beside the text encoder that it was trained with."""

from __future__ import annotations

import contextlib
from pathlib import Path

import comfy.clip_vision
import comfy.sd
import folder_paths
from comfy_api.v0_0_2 import io

from ...sf_model.backbones.mini import MINI_DIR, SPATIALFUSION_FILE
from ...sf_model.backbones.revision import MLLM_WEIGHT
from ...sf_model.checkpoint import Checkpoint, CheckpointError
from ..host.files import files_state
from ..host.notices import warn
from ..inputs import GENERATE_CATEGORY, SpatialFusion, aliases
from ..runtime.base_revision import revision_warning
from ..runtime.kept_files import kept_beside
from ..runtime.loaded_checkpoint import LoadedFile, SpatialFusionModel, beside, load_file, read_checkpoint

FOLDER = "spatialfusion"
BUILT_IN = "SpatialFusion-Mini (built-in)"
# The host's name of the image encoder that checkpoints are trained with.
DINOV2 = "dinov2"

folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


def _checkpoint_names() -> list[str]:
    names = folder_paths.get_filename_list(FOLDER)
    return [BUILT_IN, *(name for name in names if name.lower().endswith(".safetensors"))]


def _checkpoint_path(name: str) -> Path:
    if name == BUILT_IN:
        return MINI_DIR / SPATIALFUSION_FILE
    path = None
    # A linked name may be anything: the host compares only the chosen ones with the list.
    if isinstance(name, str):
        with contextlib.suppress(ValueError):  # a name that no file can have, or another drive of Windows
            path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        raise ValueError(
            f"choose or connect the name of a file in models/{FOLDER}, such as 'mine.safetensors': there is no "
            f"checkpoint {name!r}"
        )
    return Path(path)


def _read_checkpoint(name: str) -> Checkpoint:
    """The contents of the file. CheckpointError; for the built-in file a ValueError that says to install the pack."""
    path = _checkpoint_path(name)
    try:
        return read_checkpoint(path)
    except CheckpointError as error:
        if name != BUILT_IN:
            raise
        raise ValueError(f"install the pack again: its checkpoint {path} is missing or damaged") from error


def _check_clip_vision(model: SpatialFusionModel, checkpoint_name: str) -> None:
    """ValueError, with the remedy, if the checkpoint does not read this encoder's features."""
    if model.clip_vision is None:
        return
    expected = model.config.spatial_transformer.source_feature_dim
    if expected is None:
        raise ValueError(
            "disconnect clip_vision, or choose a checkpoint trained for editing: checkpoint "
            f"{checkpoint_name!r} was trained without source images"
        )
    if model.source_patch_px is not None:
        raise ValueError(
            f"disconnect clip_vision: checkpoint {checkpoint_name!r} reads source images itself and needs no encoder"
        )
    found = model.clip_vision.config.get("hidden_size")
    kind = model.clip_vision.config.get("model_type")
    # The kind is compared too: CLIP's ViT-L is as wide as DINOv2 large, but its features mean something else.
    if found != expected or kind != DINOV2:
        raise ValueError(
            f"load the DINOv2 model that it was trained with: checkpoint {checkpoint_name!r} reads features of "
            f"{DINOV2} with {expected} channels, this CLIP_VISION ({kind}) gives {found}"
        )


class SpatialFusionLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SpatialFusionLoader",
            display_name="Load SpatialFusion MLLM+MoT",
            category=GENERATE_CATEGORY,
            description=(
                "Loads a SpatialFusion checkpoint (spatial transformer, depth head and depth adapter) beside the text "
                "encoder that it was trained with. Checkpoints go to models/spatialfusion."
            ),
            search_aliases=aliases("spatial transformer", "mixture of transformers", "depth", "mllm"),
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
        checkpoint: str | None,
        clip: comfy.sd.CLIP | None = None,
        clip_vision: comfy.clip_vision.ClipVisionModel | None = None,
    ) -> str:
        """Another value when the file was written again, so that the host reads it again.

        The host does not know a linked name before the run, and gives None. Then any of the files counts.
        """
        names = _checkpoint_names() if checkpoint is None else [checkpoint]
        return files_state(_checkpoint_path(name) for name in names)

    @classmethod
    def execute(
        cls, clip: comfy.sd.CLIP, checkpoint: str, clip_vision: comfy.clip_vision.ClipVisionModel | None = None
    ) -> io.NodeOutput:
        path = _checkpoint_path(checkpoint)

        def load() -> LoadedFile:
            return load_file(clip, _read_checkpoint(checkpoint), path, checkpoint)

        loaded = beside(clip, kept_beside(clip, files_state([path]), load), checkpoint, clip_vision)
        _check_clip_vision(loaded, checkpoint)
        warning = revision_warning(
            "CLIP",
            clip.patcher,
            f"{loaded.decoder_path}.{MLLM_WEIGHT}",
            loaded.base_revision,
            loaded.base_fingerprint.get("mllm"),
        )
        return io.NodeOutput(loaded, ui=warn(cls, warning))
