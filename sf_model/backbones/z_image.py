"""Z-Image: Qwen3-4B (text only, with q/k norms) and a 6B single-stream transformer of the Lumina 2 family."""

from __future__ import annotations

from ..config import QWEN3_4B
from .base import Backbone

Z_IMAGE = Backbone(
    name="z_image",
    title="Z-Image",
    mllm=QWEN3_4B,
    text_encoder="Load CLIP with Qwen3-4B and type lumina2",
    prompt_template="<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    transformer="NextDiT",
    patch_embedder="x_embedder",
    references_before=True,
    patch_size=2,
    latent_channels=16,
    source_view=None,
)
