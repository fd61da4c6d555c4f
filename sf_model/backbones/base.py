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
    """How the MLLM is shown a source image: as ComfyUI's text encode node `node` does, which the nodes here run.

    Pixels are resized by area averaging to about `mllm_area_px`, at the same aspect ratio. The prompt is wrapped in
    `template`, `picture` before it.
    """

    node: SourceNode
    image_input: str
    mllm_area_px: int
    template: str
    picture: str


@dataclass(frozen=True)
class Backbone:
    """One base model.

    name: what checkpoints store in their configuration. title: its name in messages.
    mllm: sizes of the language model, by which it is recognised in a CLIP. Its keys and values are read after RoPE and
    q/k norms, at every layer, in the pass that encodes the prompt.
    text_encoder: how to get that CLIP in ComfyUI, for the errors' remedies. prompt_template: what the prompt is wrapped
    in, "{}" being the prompt; a CLIP that wraps it otherwise was loaded for another base.
    transformer: class name of the diffusion transformer in ComfyUI. patch_embedder: its attribute with the linear layer
    over the noisy image's patches, where injection "token" adds depth. references_before: True where reference images
    go through that same layer one by one, before the noisy image; False where it sees the noisy image alone or first.
    patch_size: latent cells of a patch's side. latent_channels: of the latent that injection "latent" adds depth to.
    source_view: how the MLLM sees source images, None where it reads text only and edits know them as reference latents
    and DINOv2 features. source_patch_px: None but for a base whose spatial transformer can read the source's own pixels
    in patches of this side (`source_encoder.source_patches`), and then needs no DINOv2.
    """

    name: str
    title: str
    mllm: MLLMConfig
    text_encoder: str
    prompt_template: str
    transformer: str
    patch_embedder: str
    references_before: bool
    patch_size: int
    latent_channels: int
    source_view: SourceView | None
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
