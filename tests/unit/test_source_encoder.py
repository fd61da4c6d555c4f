"""What the spatial transformer reads of a source image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sf_model.config import DUMMY, SpatialFusionConfig
from sf_model.models.depth_flow import NoisyDepth
from sf_model.models.depth_predictor import DepthPredictor
from sf_model.models.expert_inputs import ExpertInputs, SourceFeatures
from sf_model.models.pixel_encoder import PixelEncoder, own_patch_px, source_patch_dim, source_patches
from sf_model.models.source_encoder import SourceEncoder
from sf_model.training.bases.sizes import smoke_sizes

PATCHES = smoke_sizes().spatialfusion


def test_source_patches_by_hand() -> None:
    image = torch.zeros(1, 3, 16, 24)
    image[:, 1, 8:, :8] = 1.0  # the lower left of six patches is green
    source = source_patches(image, 8, 8)
    patches, grid = source.tokens, source.grid
    assert (patches.shape, grid) == ((1, 6, source_patch_dim(8)), (2, 3))
    assert (patches[0, 3] == torch.tensor([-1.0, 1.0, -1.0]).repeat_interleave(64)).all()
    assert (patches[0, [0, 1, 2, 4, 5]] == -1).all()
    resized = source_patches(torch.ones(1, 3, 30, 30), 8, 8)
    assert (resized.tokens.shape, resized.grid) == ((1, 16, 192), (4, 4)) and (resized.tokens == 1).all()


def test_own_pixels_are_read_where_the_configuration_says_so() -> None:
    assert (own_patch_px(DUMMY), own_patch_px(PATCHES)) == (None, 8)
    assert type(DepthPredictor(DUMMY).source_encoder) is SourceEncoder
    assert type(DepthPredictor(PATCHES).source_encoder) is PixelEncoder
    off = replace(DUMMY.spatial_transformer, source_feature_dim=None, source_at_queries=False)
    assert DepthPredictor(replace(DUMMY, spatial_transformer=off)).source_encoder is None
    with pytest.raises(ValueError, match="no source to read"):
        replace(DUMMY, spatial_transformer=replace(off, source_at_queries=True))


@torch.no_grad()
def test_the_pixel_encoder_sees_the_image_that_was_cut_into_patches() -> None:
    """The head's map holds the depth that it reads. A token holds its patch's brightness, and what is around it."""
    torch.manual_seed(0)
    encoder = PixelEncoder(8, 16, at_queries=False)
    torch.nn.init.normal_(encoder.monocular_depth.state_out.weight, std=0.1)
    image = torch.rand(1, 3, 24, 40)
    encoded = encoder(source_patches(image, 8, 8), (3, 5))
    assert (encoded.tokens.shape, encoded.grid, encoded.pixels.shape) == ((1, 15, 16), (3, 5), (1, 34, 24, 40))
    read = encoder.monocular_depth(image * 2 - 1)
    assert torch.allclose(encoded.pixels[:, :32], read.pixels.relu(), atol=1e-6)
    assert torch.allclose(encoded.pixels[:, 32:], read.state, atol=1e-5) and read.state.abs().max() > 0.01
    dark, light = (
        encoder(source_patches(torch.full((1, 3, 24, 24), grey), 8, 8), (3, 3)).tokens[0, 4] for grey in (0.2, 0.8)
    )
    assert (dark - light).abs().max() > 0.1
    around = image.clone()
    around[..., :8, :8] = 0
    moved = (encoder(source_patches(around, 8, 8), (3, 5)).tokens - encoded.tokens)[0].abs().amax(dim=1)
    assert moved.min() > 1e-4


@torch.no_grad()
def test_a_query_starts_from_what_the_source_shows_at_its_place() -> None:
    """At first nothing is added; then the cell's projected token, interpolated between grids of two sizes."""
    torch.manual_seed(0)
    encoder = SourceEncoder(12, 16, at_queries=True)
    features = torch.randn(2, 6, 12)
    assert (encoder(SourceFeatures(features, (2, 3)), (2, 3)).at_queries == 0).all()
    torch.nn.init.eye_(encoder.at_queries.weight)
    encoded = encoder(SourceFeatures(features, (2, 3)), (2, 3))
    assert torch.equal(encoded.at_queries, encoded.tokens)
    assert torch.equal(encoded.doubled().at_queries, torch.cat([encoded.tokens] * 2))
    # Two cells side by side, of six queries in two rows: centres at -1/6, 1/2 and 7/6 of their distance, held inside.
    left, right = encoder(SourceFeatures(features[:, :2], (1, 2)), (1, 2)).tokens.unbind(dim=1)
    row = torch.stack([left, (left + right) / 2, right], dim=1)
    wide = encoder(SourceFeatures(features[:, :2], (1, 2)), (2, 3)).at_queries
    assert torch.allclose(wide, torch.cat([row, row], dim=1), atol=1e-6)
    assert SourceEncoder(12, 16, at_queries=False)(SourceFeatures(features, (2, 3)), (2, 3)).at_queries is None


def test_a_configuration_from_before_source_at_queries_has_none() -> None:
    old = DUMMY.to_dict()
    del old["version"], old["spatial_transformer"]["source_at_queries"]
    config = SpatialFusionConfig.from_dict(old)
    without = replace(DUMMY.spatial_transformer, source_at_queries=False)
    assert config == replace(DUMMY, spatial_transformer=without)
    assert not [name for name in DepthPredictor(config).state_dict() if "at_queries" in name]


@torch.no_grad()
def test_a_source_at_the_queries_moves_the_states_there() -> None:
    """And nowhere else, where nothing is read by attention."""
    torch.manual_seed(0)
    predictor = DepthPredictor(PATCHES).eval()
    for layer in predictor.spatial_transformer.layers:
        layer.self_attn.o_proj.weight.zero_()
    mllm = PATCHES.mllm
    pairs = [(torch.randn(1, mllm.num_kv_heads, 4, mllm.head_dim),) * 2] * mllm.num_layers
    # Cells of one row are seen as they are; what is around them reaches a token only by the reader of depth.
    for parameter in predictor.source_encoder.monocular_depth.parameters():
        parameter.zero_()
    image = torch.rand(1, 3, 32, 32)
    other = image.clone()
    other[..., 8:16, 16:24] = 1 - other[..., 8:16, 16:24]
    states: list[torch.Tensor] = []
    keep = predictor.spatial_transformer.register_forward_hook(lambda *call: states.append(call[2][0][-1]))

    def moved() -> torch.Tensor:
        states.clear()
        for shown in (image, other):
            predictor(ExpertInputs(pairs, 32, 32, source=source_patches(shown, 8, 8)))
        return (states[1] - states[0]).abs().amax(dim=2)[0]

    assert (moved() == 0).all()
    torch.nn.init.normal_(predictor.source_encoder.at_queries.weight)
    assert moved()[6] > 0.1
    assert (moved()[torch.arange(16) != 6] == 0).all()
    keep.remove()


@torch.no_grad()
@pytest.mark.parametrize("grid", [(2, 2), (4, 4)])
def test_a_source_s_pixels_reach_the_head(grid: tuple[int, int]) -> None:
    """Also from a source of another size than the depth's state; not where the depth is not known."""
    torch.manual_seed(0)
    predictor = DepthPredictor(PATCHES).eval()
    for parameter in predictor.depth_flow.detail.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    # Nothing but the detail tells the source: at the queries it is nothing from the start.
    predictor.source_encoder.project.weight.zero_()
    predictor.source_encoder.project_seen.weight.zero_()
    mllm = PATCHES.mllm
    pairs = [(torch.randn(2, mllm.num_kv_heads, 4, mllm.head_dim),) * 2] * mllm.num_layers
    noisy = NoisyDepth(torch.randn(2, 2, 32, 32), torch.tensor([0.5, 0.5]), torch.tensor([True, False]))

    def depth(image: torch.Tensor) -> torch.Tensor:
        return predictor(ExpertInputs(pairs, 32, 32, source=source_patches(image, 8, 8)), noisy).log_depth

    moved = depth(torch.rand(2, 3, 8 * grid[0], 8 * grid[1])) - depth(torch.rand(2, 3, 8 * grid[0], 8 * grid[1]))
    assert moved[0].abs().max() > 1e-3
    assert moved[1].abs().max() == 0
