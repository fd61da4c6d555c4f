"""OmniGen2 and Qwen-Image with random weights for bench_run.py, built in the host's process from the host's classes.

Sizes are real ("full"), real with fewer layers ("reduced"), or tiny. The host's own function loads the text encoder and
recognises it by its tensors. Its vision tower is not used and stays uninitialised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.ldm.omnigen.omnigen2
import comfy.ldm.qwen_image.model
import comfy.ldm.wan.vae
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models
import comfy.text_encoders.llama as llama
import torch
from comfy_extras.nodes_model_patch import QwenImageBlockWiseControlNet

BLOCK = 1 << 20


@dataclass(frozen=True)
class Architecture:
    """One base: the host's classes and the real sizes."""

    name: str
    transformer: type
    model_config: type
    # As the host's detection finds them in the real files.
    sizes: dict[str, Any]
    text_model: type
    # The text encoder's name in the host's options.
    text_name: str
    # A name of comfy.sd.CLIPType.
    clip_type: str
    # The guidance scale.
    cfg: float

    @property
    def width(self) -> int:
        """Width of the transformer's tokens."""
        sizes = self.sizes
        return sizes.get("hidden_size") or sizes["num_attention_heads"] * sizes["attention_head_dim"]

    @property
    def layers(self) -> int:
        return self.sizes["num_layers"]


@dataclass(frozen=True)
class Size:
    """How large the measured models and images are."""

    side_px: int
    # Sampling steps.
    steps: int
    # Changes to the sizes of the transformer and of the text encoder, for each base.
    transformer: dict[str, dict[str, Any]]
    text: dict[str, dict[str, int]]
    # Width (None: as configured) and layers of the spatial transformer. None: all as configured.
    spatial: tuple[int | None, int] | None
    vae_width: int


ARCHITECTURES = {
    "omnigen2": Architecture(
        name="omnigen2",
        transformer=comfy.ldm.omnigen.omnigen2.OmniGen2Transformer2DModel,
        model_config=comfy.supported_models.Omnigen2,
        sizes={
            "image_model": "omnigen2",
            "axes_dim_rope": [40, 40, 40],
            "axes_lens": [1024, 1664, 1664],
            "hidden_size": 2520,
            "in_channels": 16,
            "multiple_of": 256,
            "num_attention_heads": 21,
            "num_kv_heads": 7,
            "num_layers": 32,
            "num_refiner_layers": 2,
            "patch_size": 2,
            "text_feat_dim": 2048,
            "timestep_scale": 1000.0,
        },
        text_model=llama.Qwen25_3B,
        text_name="qwen25_3b",
        clip_type="OMNIGEN2",
        cfg=5.0,
    ),
    "qwen_image": Architecture(
        name="qwen_image",
        transformer=comfy.ldm.qwen_image.model.QwenImageTransformer2DModel,
        model_config=comfy.supported_models.QwenImage,
        sizes={
            "image_model": "qwen_image",
            "in_channels": 64,
            "num_layers": 60,
            "num_attention_heads": 24,
            "attention_head_dim": 128,
            "joint_attention_dim": 3584,
        },
        text_model=llama.Qwen25_7BVLI,
        text_name="qwen25_7b",
        clip_type="QWEN_IMAGE",
        cfg=4.0,
    ),
}
TINY_TEXT = {"num_hidden_layers": 3, "hidden_size": 64, "intermediate_size": 64}
SIZES = {
    "full": Size(1024, 20, {"omnigen2": {}, "qwen_image": {}}, {"omnigen2": {}, "qwen_image": {}}, None, 96),
    "reduced": Size(
        128,
        4,
        {"omnigen2": {"num_layers": 2, "num_refiner_layers": 1}, "qwen_image": {"num_layers": 1}},
        {"omnigen2": {"num_hidden_layers": 2}, "qwen_image": {"num_hidden_layers": 2}},
        (None, 2),
        96,
    ),
    "tiny": Size(
        64,
        2,
        {
            "omnigen2": {
                "axes_dim_rope": [8, 8, 8],
                "hidden_size": 96,
                "num_attention_heads": 4,
                "num_kv_heads": 2,
                "num_layers": 2,
                "num_refiner_layers": 1,
                "text_feat_dim": TINY_TEXT["hidden_size"],
            },
            "qwen_image": {
                "num_layers": 2,
                "num_attention_heads": 2,
                "attention_head_dim": 32,
                "axes_dims_rope": [4, 14, 14],
                "joint_attention_dim": TINY_TEXT["hidden_size"],
            },
        },
        {
            "omnigen2": {**TINY_TEXT, "num_attention_heads": 4, "num_key_value_heads": 2},
            "qwen_image": {**TINY_TEXT, "num_attention_heads": 4, "num_key_value_heads": 4},
        },
        (32, 3),
        4,
    ),
}


def parameters(module: torch.nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def meta_transformer(base: Architecture, sizes: dict[str, Any]) -> torch.nn.Module:
    options = {name: value for name, value in sizes.items() if name != "image_model"}
    operations = comfy.ops.disable_weight_init
    return base.transformer(**options, dtype=torch.float32, device=torch.device("meta"), operations=operations)


def meta_text_encoder(base: Architecture, sizes: dict[str, int]) -> torch.nn.Module:
    """The decoder without the vision tower."""
    return base.text_model(sizes, torch.float32, torch.device("meta"), comfy.ops.disable_weight_init).model


def random_state(module: torch.nn.Module, dtype: torch.dtype, prefix: str = "") -> dict[str, torch.Tensor]:
    """A state dict for a module, on any device: norms 1, biases 0, the rest noise."""
    noise = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0))
    state = {}
    for name, value in module.state_dict().items():
        if value.ndim < 2:
            filled = torch.full(value.shape, 0.0 if name.endswith("bias") else 1.0, dtype=dtype)
        else:
            block = (noise * 0.5 * value[0].numel() ** -0.5).to(dtype)
            filled = block.repeat(-(-value.numel() // BLOCK))[: value.numel()].view(value.shape)
        state[prefix + name] = filled
    return state


def load_model(base: Architecture, size: Size) -> comfy.model_patcher.ModelPatcher:
    """A MODEL as Load Diffusion Model builds it, in the type that the host chooses for this device."""
    sizes = {**base.sizes, **size.transformer[base.name]}
    empty = meta_transformer(base, sizes)
    config = base.model_config(sizes)
    device = comfy.model_management.get_torch_device()
    supported = list(config.supported_inference_dtypes)
    dtype = comfy.model_management.unet_dtype(
        model_params=parameters(empty), supported_dtypes=supported, weight_dtype=torch.bfloat16
    )
    config.set_inference_dtype(dtype, comfy.model_management.unet_manual_cast(dtype, device, supported))
    model = config.get_model({}, "")
    offload_device = comfy.model_management.unet_offload_device()
    patcher = comfy.model_patcher.CoreModelPatcher(model, load_device=device, offload_device=offload_device)
    model.load_model_weights(random_state(empty, dtype), "", assign=patcher.is_dynamic())
    return patcher


def load_clip(base: Architecture, size: Size) -> comfy.sd.CLIP:
    sizes = size.text[base.name]
    return comfy.sd.load_text_encoder_state_dicts(
        [random_state(meta_text_encoder(base, sizes), torch.float16, "model.")],
        clip_type=comfy.sd.CLIPType[base.clip_type],
        model_options={f"{base.text_name}_model_config": sizes},
    )


def load_vae(size: Size) -> comfy.sd.VAE:
    """Qwen-Image's VAE, with which the peer encodes its picture."""
    module = comfy.ldm.wan.vae.WanVAE(
        dim=size.vae_width,
        z_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_scales=[],
        temperal_downsample=[False, True, True],
    )
    return comfy.sd.VAE(sd=random_state(module, torch.float32))


def load_peer(base: Architecture, size: Size, dtype: torch.dtype) -> comfy.model_patcher.ModelPatcher:
    """The peer: Qwen-Image's DiffSynth ControlNet, as Model Patch Loader builds it."""
    sizes = {**base.sizes, **size.transformer[base.name]}
    width = sizes["num_attention_heads"] * sizes["attention_head_dim"]
    offload_device = comfy.model_management.unet_offload_device()
    build: Callable[..., torch.nn.Module] = QwenImageBlockWiseControlNet
    module = build(
        num_layers=sizes["num_layers"],
        dim=width,
        device=offload_device,
        dtype=dtype,
        operations=comfy.ops.manual_cast,
    )
    patcher = comfy.model_patcher.CoreModelPatcher(
        module, load_device=comfy.model_management.get_torch_device(), offload_device=offload_device
    )
    module.load_state_dict(random_state(module, dtype), assign=patcher.is_dynamic())
    return patcher
