"""Every base as `sf_model/backbones` describes it, against what the real host detects and builds at the real size."""

from __future__ import annotations

import comfy.model_detection
import comfy.ops
import comfy.sd
import comfy.text_encoders.llama as llama
import comfy.text_encoders.omnigen2
import comfy.text_encoders.qwen_image
import comfy.text_encoders.z_image
import pytest
import torch

from sf_model.backbones import BACKBONES, Backbone, backbone_of_transformer, get_backbone
from sf_model.config import MLLMConfig
from tests.parity.conftest import HOST

# name: the decoder's configuration, the tokenizer, and tensors that the host knows the transformer by
REAL: dict[str, tuple[type, type, dict[str, tuple[int, ...]]]] = {
    "omnigen2": (
        llama.Qwen25_3BConfig,
        comfy.text_encoders.omnigen2.Omnigen2Tokenizer,
        {"time_caption_embed.timestep_embedder.linear_1.bias": (1024,)},
    ),
    "qwen_image": (
        llama.Qwen25_7BVLI_Config,
        comfy.text_encoders.qwen_image.QwenImageTokenizer,
        {"txt_norm.weight": (3584,), "img_in.weight": (3072, 64), "proj_out.weight": (64, 3072)},
    ),
    "z_image": (
        llama.Qwen3_4BConfig,
        comfy.text_encoders.z_image.ZImageTokenizer,
        {
            "cap_embedder.1.weight": (3840, 2560),
            "noise_refiner.0.attention.k_norm.weight": (128,),
            "cap_pad_token": (1, 3840),
        },
    ),
}
PARAMETERS = {"omnigen2": 3_967_161_400, "qwen_image": 20_430_401_088, "z_image": 6_154_908_736}
LAYERS = {"omnigen2": 32, "qwen_image": 60, "z_image": 30}
BLOCKS = {"qwen_image": "transformer_blocks", "z_image": "layers"}


def detected(name: str) -> torch.nn.Module:
    """The host's transformer at its real size, on meta, from the tensors that it detects the base by."""
    shapes = dict(REAL[name][2])
    shapes |= {f"{BLOCKS[name]}.{layer}.weight": (1,) for layer in range(LAYERS[name])} if name in BLOCKS else {}
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    config = comfy.model_detection.model_config_from_unet(state, "")
    config.custom_operations = comfy.ops.disable_weight_init
    config.set_inference_dtype(torch.float32, None)
    return config.get_model(state, device=torch.device("meta"))


@pytest.mark.parametrize("name", REAL)
def test_the_diffusion_model_is_as_described(name: str) -> None:
    backbone = get_backbone(name)
    model = detected(name)
    transformer = model.diffusion_model
    assert all(value.is_meta for value in transformer.parameters())
    assert sum(value.numel() for value in transformer.parameters()) == PARAMETERS[name]
    names = [cls.__name__ for cls in type(transformer).__mro__]
    assert backbone_of_transformer(names, BACKBONES) is backbone
    embedder = getattr(transformer, backbone.patch_embedder)
    assert embedder.in_features == backbone.patch_size**2 * backbone.latent_channels
    assert transformer.patch_size == backbone.patch_size
    assert model.latent_format.latent_channels == backbone.latent_channels


@pytest.mark.parametrize("name", REAL)
def test_the_text_encoder_is_as_described(name: str) -> None:
    backbone, config = get_backbone(name), REAL[name][0]()
    assert backbone.mllm == MLLMConfig(
        num_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        rope_theta=config.rope_theta,
        qk_norm=config.q_norm is not None,
    )


@pytest.mark.parametrize("name", REAL)
def test_prompts_are_wrapped_as_described(name: str) -> None:
    tokenizer = REAL[name][1]()
    rows = next(iter(tokenizer.tokenize_with_weights("a house").values()))
    text = tokenizer.decode([token for token, *_ in rows[0]], skip_special_tokens=False)
    assert text == get_backbone(name).prompt_template.format("a house")


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"model.layers.0.self_attn.k_proj.bias": (256,)}, comfy.sd.TEModel.QWEN25_3B),
        ({"model.layers.0.self_attn.k_proj.bias": (512,)}, comfy.sd.TEModel.QWEN25_7B),
        (
            {
                "model.layers.0.post_attention_layernorm.weight": (2560,),
                "model.layers.0.self_attn.q_norm.weight": (128,),
            },
            comfy.sd.TEModel.QWEN3_4B,
        ),
    ],
    ids=REAL,
)
def test_the_host_knows_the_text_encoders(shapes: dict[str, tuple[int, ...]], expected: comfy.sd.TEModel) -> None:
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assert comfy.sd.detect_te_model(state) == expected


@pytest.mark.parametrize("name", ["qwen_image", "qwen_image_edit"])
def test_a_source_image_is_shown_as_the_stock_node_does(name: str) -> None:
    """The node's own source says what the backbone says; what it gives is compared in tests/host/test_real_bases.py."""
    backbone: Backbone = get_backbone(name)
    view = backbone.source_view
    assert view is not None
    source = (HOST / "comfy_extras" / "nodes_qwen.py").read_text(encoding="utf-8")
    node = source.split(f"class {view.node}(")[1].split("\nclass ")[0]
    side = round(view.mllm_area_px**0.5)
    assert f"{side} * {side}" in node
    assert f'"{view.image_input}"' in node
    tokenizer = comfy.text_encoders.qwen_image.QwenImageTokenizer()
    if name == "qwen_image_edit":
        assert tokenizer.llama_template_images == view.template.replace("{}", view.picture + "{}")
    else:
        assert view.template.encode("unicode_escape").decode() in node
        assert view.picture.replace("1:", "{}:") in node
