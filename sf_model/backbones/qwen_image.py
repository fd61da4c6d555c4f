"""Qwen-Image and Qwen-Image-Edit: Qwen2.5-VL-7B, which sees source images, and a 20B transformer.

All releases share sizes and prompt template. They differ in how they show a source image to the MLLM. `qwen_image` is
for Edit-2509 and later, `qwen_image_edit` for the first Edit. Without a source image the two are the same.
"""

from __future__ import annotations

from dataclasses import replace

from ..config import QWEN25_VL_7B
from .base import Backbone, SourceView

_DESCRIBE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
    "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
_EDIT = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. Generate a new image "
    "that meets the user's requirements while maintaining consistency with the original input where appropriate."
    "<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
_VISION = "<|vision_start|><|image_pad|><|vision_end|>"

QWEN_IMAGE = Backbone(
    name="qwen_image",
    title="Qwen-Image",
    mllm=QWEN25_VL_7B,
    text_encoder="Load CLIP with Qwen2.5-VL-7B and type qwen_image",
    prompt_template=_DESCRIBE,
    transformer="QwenImageTransformer2DModel",
    patch_embedder="img_in",  # one call: the noisy image's tokens, then the references'
    references_before=False,
    patch_size=2,
    latent_channels=16,
    source_view=SourceView(
        node="TextEncodeQwenImageEditPlus",
        image_input="image1",
        mllm_area_px=384 * 384,
        template=_EDIT,
        picture=f"Picture 1: {_VISION}",
    ),
    rope_sections=(16, 24, 24),
)

QWEN_IMAGE_EDIT = replace(
    QWEN_IMAGE,
    name="qwen_image_edit",
    title="Qwen-Image-Edit (first release)",
    source_view=SourceView(
        node="TextEncodeQwenImageEdit",
        image_input="image",
        mllm_area_px=1024 * 1024,
        template=_EDIT,
        picture=_VISION,
    ),
)
