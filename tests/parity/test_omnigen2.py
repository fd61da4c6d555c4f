"""The trainable twin against the host's OmniGen2Transformer2DModel, on the same random weights in float32."""

import copy
from dataclasses import asdict, replace

import comfy.ops
import pytest
import torch
from comfy.ldm.omnigen.omnigen2 import OmniGen2Transformer2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.normalization import RMSNorm
from diffusers.models.transformers.transformer_lumina2 import Lumina2AttnProcessor2_0
from torch import Tensor

from sf_model.training.bases.omnigen2_transformer import OmniGen2Config, OmniGen2Transformer
from tests.parity.measures import relative_error

TOLERANCE = 1e-5

SMALL = OmniGen2Config(
    in_channels=4,
    hidden_size=96,
    num_layers=2,
    num_refiner_layers=1,
    num_attention_heads=4,
    num_kv_heads=2,
    multiple_of=32,
    axes_dim_rope=(8, 8, 8),
    text_feat_dim=40,
)
CONFIGS = {
    "small": SMALL,
    "no_gqa": replace(SMALL, num_kv_heads=4),
    "pixels": replace(SMALL, patch_size=8, in_channels=3, timestep_scale=1.0, axes_dim_rope=(4, 8, 12)),
    # OmniGen2's heads are 120 wide, three for each KV head, rotated 40 + 40 + 40.
    "official_heads": replace(
        SMALL, hidden_size=360, num_layers=1, num_attention_heads=3, num_kv_heads=1, axes_dim_rope=(40, 40, 40)
    ),
    # Above 1024 the width of the timestep embedding stays 1024.
    "wide": replace(
        SMALL, hidden_size=1080, num_layers=1, num_attention_heads=9, num_kv_heads=3, axes_dim_rope=(40, 40, 40)
    ),
}


def make_twin(config: OmniGen2Config, seed: int = 0) -> OmniGen2Transformer:
    """A twin in which every parameter matters: nothing zero, norm weights spread around 1."""
    torch.manual_seed(seed)
    twin = OmniGen2Transformer(config).eval()
    for name, parameter in twin.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=2 * parameter.shape[-1] ** -0.5)
        else:
            torch.nn.init.normal_(parameter, mean=0.0 if name.endswith("bias") else 1.0, std=0.2)
    return twin


def make_host(twin: OmniGen2Transformer) -> OmniGen2Transformer2DModel:
    host = OmniGen2Transformer2DModel(
        **asdict(twin.config), dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init
    )
    host.load_state_dict(twin.state_dict(), strict=True)
    return host.eval()


def make_inputs(config: OmniGen2Config, size: tuple[int, int], batch: int = 2, tokens: int = 7) -> tuple[Tensor, ...]:
    """latent, timestep, text hidden states."""
    latent = torch.randn(batch, config.in_channels, *size)
    return latent, torch.rand(batch), torch.randn(batch, tokens, config.text_feat_dim)


def run_host(
    host: OmniGen2Transformer2DModel,
    latent: Tensor,
    timestep: Tensor,
    text: Tensor,
    references: list[Tensor] | None = None,
) -> Tensor:
    """The host's output in the twin's convention."""
    with torch.no_grad():
        return -host(latent, 1 - timestep, text, text.shape[1], ref_latents=references)


@pytest.mark.parametrize("with_gradient", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", CONFIGS)
def test_text_to_image_equals_host(name: str, with_gradient: bool) -> None:
    twin = make_twin(CONFIGS[name])
    inputs = make_inputs(twin.config, (16, 24))
    with torch.set_grad_enabled(with_gradient):
        velocity = twin(*inputs)
    assert velocity.requires_grad == with_gradient
    assert relative_error(velocity.detach(), run_host(make_host(twin), *inputs)) < TOLERANCE


@pytest.mark.parametrize("size", [(9, 13), (10, 14), (1, 1), (7, 2)])
@pytest.mark.parametrize("reference_sizes", [[], [(6, 11)], [(6, 11), (3, 20)]], ids=["none", "one", "two"])
def test_odd_sizes_and_references_equal_host(size: tuple[int, int], reference_sizes: list[tuple[int, int]]) -> None:
    twin = make_twin(SMALL)
    inputs = make_inputs(SMALL, size)
    references = [torch.randn(2, SMALL.in_channels, *reference_size) for reference_size in reference_sizes]
    with torch.no_grad():
        velocity = twin(*inputs, reference_latents=references)
    assert relative_error(velocity, run_host(make_host(twin), *inputs, references or None)) < TOLERANCE


@pytest.mark.parametrize("reference_size", [None, (5, 8)], ids=["text_to_image", "reference"])
@pytest.mark.parametrize("with_gradient", [False, True], ids=["inference", "training"])
def test_padded_batch_equals_each_prompt_alone(reference_size: tuple[int, int] | None, with_gradient: bool) -> None:
    twin = make_twin(SMALL)
    host = make_host(twin)
    latent, timestep, text = make_inputs(SMALL, (9, 13), batch=3, tokens=11)
    lengths = [11, 4, 1]
    mask = torch.arange(11) < torch.tensor(lengths)[:, None]
    references = [torch.randn(3, SMALL.in_channels, *reference_size)] if reference_size else None
    with torch.set_grad_enabled(with_gradient):
        velocity = twin(latent, timestep, text, mask, references).detach()
    for i, length in enumerate(lengths):
        one = slice(i, i + 1)
        alone = [reference[one] for reference in references] if references else None
        expected = run_host(host, latent[one], timestep[one], text[one, :length], alone)
        assert relative_error(velocity[one], expected) < TOLERANCE


def test_empty_prompt_in_a_batch_equals_no_text_at_all() -> None:
    twin = make_twin(SMALL)
    latent, timestep, text = make_inputs(SMALL, (8, 8))
    mask = torch.tensor([[True] * 7, [False] * 7])
    velocity = twin(latent, timestep, text, mask)
    velocity.square().sum().backward()
    alone = twin(latent[1:], timestep[1:], text[1:, :0])
    assert relative_error(velocity[1:].detach(), alone.detach()) < TOLERANCE
    assert all(p.grad.isfinite().all() for p in twin.parameters() if p.grad is not None)


def test_full_mask_equals_no_mask() -> None:
    twin = make_twin(SMALL)
    inputs = make_inputs(SMALL, (8, 8))
    with torch.no_grad():
        assert torch.equal(twin(*inputs, torch.ones(2, 7, dtype=torch.bool)), twin(*inputs))


def test_depth_tokens_are_added_to_the_patch_embeddings() -> None:
    twin = make_twin(SMALL)
    latent, timestep, text = make_inputs(SMALL, (8, 12))
    depth_tokens = torch.randn(2, 24, SMALL.hidden_size)
    host = make_host(twin)
    host.x_embedder.register_forward_hook(lambda module, args, output: output + depth_tokens)
    with torch.no_grad():
        velocity = twin(latent, timestep, text, depth_tokens=depth_tokens)
        without = twin(latent, timestep, text)
    assert relative_error(velocity, run_host(host, latent, timestep, text)) < TOLERANCE
    assert relative_error(velocity, without) > 0.01


def test_gradients_equal_those_of_stock_diffusers_modules() -> None:
    """The host is made for inference, so diffusers' own norms and attention are the oracle for the gradients."""
    twin = make_twin(SMALL)
    stock = copy.deepcopy(twin)
    for parent in list(stock.modules()):
        if isinstance(parent, Attention):
            parent.set_processor(Lumina2AttnProcessor2_0())
        for name, child in list(parent.named_children()):
            if isinstance(child, RMSNorm):
                norm = RMSNorm(child.dim, eps=child.eps)
                norm.load_state_dict(child.state_dict())
                setattr(parent, name, norm)
    latent, timestep, text = make_inputs(SMALL, (8, 8))
    mask = torch.tensor([[True] * 7, [True] * 3 + [False] * 4])
    target, reference = torch.randn_like(latent), torch.randn(2, SMALL.in_channels, 6, 6)
    for model in (twin, stock):
        model(latent, timestep, text, mask, [reference]).sub(target).square().mean().backward()
    for (name, parameter), expected in zip(twin.named_parameters(), stock.parameters()):
        assert relative_error(parameter.grad, expected.grad) < 1e-4, name


def test_gradient_checkpointing_changes_nothing() -> None:
    gradients = []
    for enabled in (False, True):
        twin = make_twin(SMALL)
        twin.enable_gradient_checkpointing(enabled)
        twin(*make_inputs(SMALL, (8, 8))).square().mean().backward()
        gradients.append(twin.x_embedder.weight.grad)
    assert torch.equal(*gradients)


def test_bf16_autocast_stays_close_to_float32() -> None:
    twin = make_twin(SMALL)
    inputs = make_inputs(SMALL, (16, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        velocity = twin(*inputs)
    velocity.float().square().mean().backward()
    assert relative_error(velocity.detach().float(), twin(*inputs).detach()) < 0.05


def test_fresh_twin_predicts_zero_and_its_blocks_are_identities() -> None:
    torch.manual_seed(0)
    twin = OmniGen2Transformer(SMALL)
    inputs = make_inputs(SMALL, (8, 8))
    assert torch.equal(twin(*inputs), torch.zeros_like(inputs[0]))
    hidden = torch.randn(1, 3, SMALL.hidden_size)
    rotations = torch.ones(1, 3, 12, dtype=torch.complex64)
    assert torch.equal(twin.layers[0](hidden, None, rotations, torch.randn(1, 96)), hidden)


def test_official_size_has_the_host_names_and_shapes() -> None:
    with torch.device("meta"):
        twin = OmniGen2Transformer(OmniGen2Config())
    host = OmniGen2Transformer2DModel(
        **asdict(twin.config), dtype=torch.float32, device="meta", operations=comfy.ops.disable_weight_init
    )
    shapes, host_shapes = ({k: v.shape for k, v in model.state_dict().items()} for model in (twin, host))
    assert shapes == host_shapes
    assert sum(p.numel() for p in twin.parameters()) == 3_967_161_400


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="axes_dim_rope"):
        replace(SMALL, hidden_size=100)
    with pytest.raises(ValueError, match="KV heads"):
        replace(SMALL, num_kv_heads=3)
    with pytest.raises(ValueError, match="at most 5"):
        OmniGen2Transformer(SMALL)(*make_inputs(SMALL, (8, 8)), reference_latents=[torch.randn(2, 4, 4, 4)] * 6)
