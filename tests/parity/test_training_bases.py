"""Training's bases against the host's classes on the same tiny files: prompts, keys/values, latents, velocities."""

import inspect
from dataclasses import replace
from pathlib import Path

import comfy.latent_formats
import comfy.ops
import comfy.text_encoders.llama as llama
import comfy.text_encoders.omnigen2
import comfy.text_encoders.qwen_image
import pytest
import safetensors.torch
import torch
from comfy import sd1_clip
from comfy.ldm.models.autoencoder import AutoencodingEngine
from comfy.ldm.omnigen.omnigen2 import OmniGen2Transformer2DModel
from comfy.ldm.qwen_image.model import QwenImageTransformer2DModel
from comfy.ldm.wan.vae import WanVAE
from comfy.text_encoders import qwen_vl

from sf_model.backbones.qwen_image import QWEN_IMAGE_EDIT
from sf_model.training.bases.base import Base
from sf_model.training.bases.omnigen2 import OmniGen2Base
from sf_model.training.bases.qwen_image import TIMESTEP_ZERO, QwenImageBase
from sf_model.training.bases.released import BaseFiles
from sf_model.training.bases.weights import read_weights
from tests.parity.measures import relative_error
from tests.training import tiny_bases

TOLERANCE = 1e-4
PROMPTS = ["a red car 4 m away, facing left", ""]
OPS = comfy.ops.disable_weight_init
TOKENIZER = Path(comfy.text_encoders.omnigen2.__file__).parent / "qwen25_tokenizer"
VOCABULARY = 151936
# The oldest host leaves the source's features in the order of the vision tower's windows, unlike the published model.
UNDOES_WINDOWS = "reverse_indices" in inspect.getsource(qwen_vl)
SIZES = {name: value for name, value in tiny_bases.DECODER.items() if name not in ("head_dim", "rms_norm_eps")}
SIZES["vocab_size"] = VOCABULARY
QWEN_SIZES = {
    "num_layers": 2,
    "num_attention_heads": 1,
    "attention_head_dim": 128,
    "joint_attention_dim": tiny_bases.HIDDEN,
    "in_channels": 64,
}


class TinyVisionLanguage(llama.Qwen25_7BVLI):
    """The host's class with a smaller vision tower, whose sizes it fixes."""

    def __init__(self, config_dict: dict, dtype: torch.dtype, device: str, operations: object) -> None:
        torch.nn.Module.__init__(self)
        config = llama.Qwen25_7BVLI_Config(**config_dict)
        self.num_layers, self.dtype = config.num_hidden_layers, dtype
        self.model = llama.Llama2_(config, device=device, dtype=dtype, ops=operations)
        self.visual = qwen_vl.Qwen2VLVisionTransformer(
            64, config.hidden_size, 48, num_layers=1, device=device, dtype=dtype, ops=operations
        )


def _clip_model(model_class: type) -> type:
    class ClipModel(sd1_clip.SDClipModel):
        def __init__(self, device: str = "cpu", dtype: torch.dtype | None = None, model_options: dict = {}) -> None:  # noqa: B006
            super().__init__(
                device=device,
                layer="last",
                textmodel_json_config=dict(SIZES),
                dtype=torch.float32,
                special_tokens={"pad": 151643},
                layer_norm_hidden_state=False,
                model_class=model_class,
                enable_attention_masks=True,
                return_attention_masks=True,
            )

    return ClipModel


class HostPrompt:
    """The host's tokenizer and text encoder of a base, and the keys/values of its last pass."""

    def __init__(self, name: str, file: Path) -> None:
        module, tokenizer, key, parent, model = {
            "omnigen2": (
                comfy.text_encoders.omnigen2,
                "Omnigen2Tokenizer",
                "qwen25_3b",
                "Omnigen2Model",
                llama.Qwen25_3B,
            ),
            "qwen_image": (
                comfy.text_encoders.qwen_image,
                "QwenImageTokenizer",
                "qwen25_7b",
                "QwenImageTEModel",
                TinyVisionLanguage,
            ),
        }[name.removesuffix("_edit")]
        self.tokenizer = getattr(module, tokenizer)()
        encoder = getattr(module, parent).__new__(getattr(module, parent))
        sd1_clip.SD1ClipModel.__init__(encoder, name=key, clip_model=_clip_model(model))
        self.encoder, self.transformer = encoder, getattr(encoder, key).transformer
        self.transformer.load_state_dict(read_weights(file), strict=True)
        forward = self.transformer.model.forward

        def record(*arguments: object, **options: object) -> tuple:
            hidden, intermediate, self.keys_values = forward(*arguments, **{**options, "past_key_values": []})
            return hidden, intermediate

        self.transformer.model.forward = record

    @torch.no_grad()
    def encode(self, text: str, image: torch.Tensor | None = None) -> torch.Tensor:
        images = {} if image is None else {"images": [image.movedim(1, -1)]}
        return self.encoder.encode_token_weights(self.tokenizer.tokenize_with_weights(text, **images))[0]


@pytest.fixture(scope="module", params=["omnigen2", "qwen_image"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Base, dict[str, Path]]:
    paths = tiny_bases.write_weights(request.param, tmp_path_factory.mktemp(request.param), VOCABULARY)
    files = {name: paths[name] for name in ("text_encoder", "diffusion_model", "vae")}
    common = BaseFiles(**files, tokenizer=TOKENIZER, vision=None, dtype=torch.float32)
    if request.param == "omnigen2":
        return OmniGen2Base(common), paths
    view = replace(QWEN_IMAGE_EDIT.source_view, mllm_area_px=112 * 168)
    return QwenImageBase(common, replace(QWEN_IMAGE_EDIT, source_view=view)), paths


@torch.no_grad()
def test_queries_start_where_a_next_token_would(loaded: tuple[Base, dict[str, Path]]) -> None:
    """Padded texts behind an image, by transformers' own position function. Its tokens are many more than its span."""
    base, _ = loaded
    ids, mask = base.tokens.batch(PROMPTS, True)
    if not base.mllm_sees_source:
        assert base.encode(ids, mask, None).next_position.tolist() == mask.sum(dim=1).tolist()
        return
    rows, columns = 4, 6  # of 28 x 28 pixels, in the area that the base shows its MLLM
    prompt = base.encode(ids, mask, torch.rand(2, 3, 28 * rows, 28 * columns))
    place = int((ids[0] == base.image_token).nonzero()[0])
    ids = torch.cat([ids[:, :place], ids[:, [place]].expand(-1, rows * columns), ids[:, place + 1 :]], dim=1)
    grid = torch.tensor([[1, 2 * rows, 2 * columns]] * 2)
    kinds = (ids == base.image_token).int()
    positions, _ = base.text_encoder.get_rope_index(ids, kinds, image_grid_thw=grid, attention_mask=prompt.mask)
    expected = [int(positions[:, row, prompt.mask[row]].max()) + 1 for row in range(2)]
    assert prompt.next_position.tolist() == expected
    tokens = prompt.mask.sum(dim=1).tolist()
    assert [count - after for count, after in zip(tokens, expected)] == [rows * columns - max(rows, columns)] * 2


@torch.no_grad()
def test_prompts_equal_the_hosts(loaded: tuple[Base, dict[str, Path]]) -> None:
    base, paths = loaded
    host = HostPrompt(base.name, paths["text_encoder"])
    # A source at the MLLM's area, so that both sides see the very same pixels.
    source = torch.rand(1, 3, 112, 168)
    for has_source in (False, True) if base.mllm_sees_source and UNDOES_WINDOWS else (False,):
        ids, mask = base.tokens.batch(PROMPTS, has_source)
        prompt = base.encode(ids, mask, source.expand(2, -1, -1, -1) if has_source else None)
        for row, text in enumerate(PROMPTS):
            hidden = host.encode(text, source if has_source else None)
            assert relative_error(prompt.hidden[row : row + 1][:, prompt.hidden_mask[row]], hidden) < TOLERANCE
            for (keys, values), layer in zip(prompt.keys_values, host.keys_values):
                seen = prompt.mask[row]
                assert relative_error(keys[row : row + 1][:, :, seen], layer[0]) < TOLERANCE
                assert relative_error(values[row : row + 1][:, :, seen], layer[1]) < TOLERANCE


@torch.no_grad()
def test_latents_equal_the_hosts(loaded: tuple[Base, dict[str, Path]]) -> None:
    base, paths = loaded
    tensors, image = read_weights(paths["vae"]), torch.rand(1, 3, 64, 48)
    if base.name == "omnigen2":
        sizes = {"double_z": True, "z_channels": 16, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 32}
        sizes |= {"ch_mult": [1, 1, 1, 1], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
        parts = {
            f"{part}_config": {
                "target": f"comfy.ldm.modules.diffusionmodules.model.{part.capitalize()}",
                "params": sizes,
            }
            for part in ("encoder", "decoder")
        }
        regularizer = {
            "target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer",
            "params": {"sample": False},
        }
        host = AutoencodingEngine(regularizer_config=regularizer, **parts).eval()
        host.load_state_dict(tensors, strict=True)
        latent_format = comfy.latent_formats.Flux()
        expected = latent_format.process_in(host.encode(image * 2 - 1))
        decoded = host.decode(latent_format.process_out(expected))
    else:
        host = WanVAE(dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, temperal_downsample=[False, True, True])
        host.eval().load_state_dict(tensors, strict=True)
        latent_format = comfy.latent_formats.Wan21()
        expected = latent_format.process_in(host.encode((image * 2 - 1).unsqueeze(2)))
        decoded = host.decode(latent_format.process_out(expected))[:, :, 0]
        expected = expected[:, :, 0]
    latent = base.encode_image(image)
    assert relative_error(latent, expected) < TOLERANCE
    assert relative_error(base.decode_latent(latent), (decoded / 2 + 0.5).clamp(0, 1)) < TOLERANCE


@pytest.mark.parametrize("loaded", ["qwen_image"], indirect=True)
@torch.no_grad()
def test_references_at_time_zero_equal_the_hosts(loaded: tuple[Base, dict[str, Path]], tmp_path: Path) -> None:
    """Qwen-Image-Edit-2511, whose file has a mark for it."""
    base, paths = loaded
    tensors = {**read_weights(paths["diffusion_model"]), TIMESTEP_ZERO: torch.zeros(0)}
    safetensors.torch.save_file(tensors, tmp_path / "marked.safetensors")
    marked = tiny_bases.load_base(
        "qwen_image", {**paths, "diffusion_model": tmp_path / "marked.safetensors"}, torch.float32
    )
    host = QwenImageTransformer2DModel(
        **QWEN_SIZES, default_ref_method="index_timestep_zero", dtype=torch.float32, device="cpu", operations=OPS
    )
    host.load_state_dict(marked.transformer_file(), strict=True)
    ids, mask = base.tokens.batch(PROMPTS[:1], False)
    prompt = base.encode(ids, mask, None)
    latent, reference, time = torch.randn(1, 16, 8, 12), torch.randn(1, 16, 4, 12), torch.tensor([0.3])
    expected = -host(latent.unsqueeze(2), 1 - time, prompt.hidden, None, ref_latents=[reference.unsqueeze(2)])[:, :, 0]
    assert relative_error(marked.velocity(latent, time, prompt, reference), expected) < TOLERANCE
    assert relative_error(base.velocity(latent, time, prompt, reference), expected) > 10 * TOLERANCE


@pytest.mark.parametrize("size", [(8, 12), (4, 16)])
@pytest.mark.parametrize("has_reference", [False, True], ids=["text_to_image", "edit"])
@torch.no_grad()
def test_velocities_equal_the_hosts(
    loaded: tuple[Base, dict[str, Path]], has_reference: bool, size: tuple[int, int]
) -> None:
    base, paths = loaded
    tensors = read_weights(paths["diffusion_model"])
    ids, mask = base.tokens.batch(PROMPTS[:1], False)
    prompt = base.encode(ids, mask, None)
    latent, time = torch.randn(1, 16, *size), torch.tensor([0.3])
    reference = torch.randn(1, 16, 4, 12) if has_reference else None
    references = None if reference is None else [reference]
    videos = None if reference is None else [reference.unsqueeze(2)]
    if base.name == "omnigen2":
        config = base.transformer.config
        host = OmniGen2Transformer2DModel(**vars(config), dtype=torch.float32, device="cpu", operations=OPS)
        host.load_state_dict(tensors, strict=True)
        expected = -host(latent, 1 - time, prompt.hidden, prompt.hidden.shape[1], ref_latents=references)
    else:
        host = QwenImageTransformer2DModel(**QWEN_SIZES, dtype=torch.float32, device="cpu", operations=OPS)
        host.load_state_dict(tensors, strict=True)
        expected = -host(latent.unsqueeze(2), 1 - time, prompt.hidden, None, ref_latents=videos)[:, :, 0]
    assert relative_error(base.velocity(latent, time, prompt, reference), expected) < TOLERANCE
