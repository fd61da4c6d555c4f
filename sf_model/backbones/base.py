"""What a base model (text encoder + diffusion transformer) must offer, so that a spatial transformer can run beside it.

One `Backbone` a base, in a small file each; `docs/adding_a_base.md` walks through a new one. It is data only: what the
method needs in training and what ComfyUI's nodes need to find their way in the host's models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..config import MLLMConfig

SourceNode = Literal["TextEncodeQwenImageEdit", "TextEncodeQwenImageEditPlus"]


@dataclass(frozen=True)
class SourceView:
    """How the MLLM is shown a source image: as one of ComfyUI's text encode nodes does, which the nodes here run."""

    # That node's id.
    node: SourceNode
    # The name of its input for the image.
    image_input: str
    # The image is resized to about this area, at the same aspect ratio, by area averaging.
    mllm_area_px: int
    # What the prompt is wrapped in.
    template: str
    # What stands for the image before the prompt.
    picture: str


@dataclass(frozen=True)
class Backbone:
    """One base model."""

    # What checkpoints store in their configuration.
    name: str
    # Its name in messages.
    title: str
    # Sizes of the language model, by which it is recognised in a CLIP. Its keys and values are read after RoPE and q/k
    # norms, at every layer, in the pass that encodes the prompt.
    mllm: MLLMConfig
    # How to get that CLIP in ComfyUI, for the remedies of errors.
    text_encoder: str
    # What the prompt, "{}", is wrapped in. A CLIP that wraps it otherwise was loaded for another base.
    prompt_template: str
    # Class name of the diffusion transformer in ComfyUI.
    transformer: str
    # The transformer's attribute with the linear layer over patches, where injection "token" adds depth.
    patch_embedder: str
    # True: reference images go through that layer one by one, before the noisy image. False: after it, or elsewhere.
    references_before: bool
    # Latent cells along a patch's side.
    patch_size: int
    # Channels of the latent, to which injection "latent" adds depth.
    latent_channels: int
    # How the MLLM sees source images. None: it reads text only; edits know the source as reference latents and
    # features.
    source_view: SourceView | None
    # How many pairs of a head's channels each axis (time, row, column) of the MLLM's RoPE turns, in this order. The
    # queries do the same, since they read the keys of an image. None: the MLLM reads text alone, and the axes take
    # turns.
    rope_sections: tuple[int, int, int] | None = None
    # The spatial transformer can read the source's own pixels in patches of this side, without DINOv2. None: it cannot.
    source_patch_px: int | None = None


def backbone_of_transformer(
    class_names: list[str], backbones: Mapping[str, Backbone], preferred: Backbone | None = None
) -> Backbone | None:
    """The base whose diffusion transformer has the first of these class names that any base knows, or None.

    class_names: the transformer's class and those that it inherits from, nearest first. Where several bases share a
    transformer, `preferred` wins if it is among them.
    """
    for class_name in class_names:
        matching = [backbone for backbone in backbones.values() if backbone.transformer == class_name]
        if matching:
            return preferred if preferred in matching else matching[0]
    return None
