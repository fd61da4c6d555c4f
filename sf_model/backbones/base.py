"""The description of a base model: text encoder and diffusion transformer.

Each base has one `Backbone`, in a small file. It is data only: what training needs, and what the nodes need to find the
parts of ComfyUI's models. `docs/adding_a_base.md` explains how to add one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..config import MLLMConfig

SourceNode = Literal["TextEncodeQwenImageEdit", "TextEncodeQwenImageEditPlus"]


@dataclass(frozen=True)
class SourceView:
    """How the MLLM sees a source image: as one of ComfyUI's text encode nodes shows it. Our nodes run that node."""

    # The node's id.
    node: SourceNode
    # Its input for the image.
    image_input: str
    # The image is resized to about this area, at its aspect ratio, by area averaging.
    mllm_area_px: int
    # The text around the prompt, which is "{}".
    template: str
    # The text that stands for the image, before the prompt.
    picture: str


@dataclass(frozen=True)
class Backbone:
    """One base model."""

    # Its name in the configuration of checkpoints.
    name: str
    # Its name in messages.
    title: str
    # Sizes of the language model, by which the nodes recognise it in a CLIP. Its keys and values are read after RoPE
    # and q/k norms, at every layer, in the pass that encodes the prompt.
    mllm: MLLMConfig
    # How to load that CLIP in ComfyUI, for error messages.
    text_encoder: str
    # The text around the prompt, which is "{}". A CLIP with another template was loaded for another base.
    prompt_template: str
    # Class name of the diffusion transformer in ComfyUI.
    transformer: str
    # The transformer's attribute with the linear layer over patches. Injection "token" adds depth there.
    patch_embedder: str
    # On: reference images go through that layer one by one, before the noisy image. Off: after it, or elsewhere.
    references_before: bool
    # Latent cells along a patch's side.
    patch_size: int
    # Channels of the latent. Injection "latent" adds depth there.
    latent_channels: int
    # How the MLLM sees source images. None: it reads text only. Edits then read the source as reference latents and
    # features.
    source_view: SourceView | None
    # Pairs of a head's channels that the MLLM's RoPE rotates for each axis (time, row, column). The queries have the
    # same, because they read the keys of an image. None: the MLLM reads text only, and the axes alternate.
    rope_sections: tuple[int, int, int] | None = None
    # Side of the patches in which the spatial transformer reads the source's pixels, without DINOv2. None: it cannot.
    source_patch_px: int | None = None


def backbone_of_transformer(
    class_names: list[str], backbones: Mapping[str, Backbone], preferred: Backbone | None = None
) -> Backbone | None:
    """The base that has this diffusion transformer, or None.

    class_names: the transformer's class and its base classes, nearest first; the first known one counts. preferred:
    is chosen if several bases share the transformer and it is one of them.
    """
    for class_name in class_names:
        matching = [backbone for backbone in backbones.values() if backbone.transformer == class_name]
        if matching:
            return preferred if preferred in matching else matching[0]
    return None
