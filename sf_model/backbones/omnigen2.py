"""OmniGen2: Qwen2.5-VL-3B, to which ComfyUI gives only text, and a 4B transformer in the latents of FLUX.1's VAE."""

from __future__ import annotations

from ..config import QWEN25_VL_3B
from .base import Backbone

OMNIGEN2 = Backbone(
    name="omnigen2",
    title="OmniGen2",
    mllm=QWEN25_VL_3B,
    text_encoder="Load CLIP with Qwen2.5-VL-3B and type omnigen2",
    prompt_template=(
        "<|im_start|>system\nYou are a helpful assistant that generates high-quality images based on user "
        "instructions.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    ),
    transformer="OmniGen2Transformer2DModel",
    patch_embedder="x_embedder",  # references have another layer
    references_before=False,
    patch_size=2,
    latent_channels=16,
    source_view=None,
)
