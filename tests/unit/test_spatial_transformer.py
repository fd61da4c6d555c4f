"""The spatial transformer against transformers' Qwen2 and against a naive shared attention."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from transformers import Qwen2Config, Qwen2Model

from sf_model.config import DUMMY, MLLMConfig, SpatialTransformerConfig
from sf_model.models.attention import grouped_attention
from sf_model.models.expert_inputs import ExpertInputs
from sf_model.models.rotary import next_position, query_positions, rotary_axes, rotary_tables
from sf_model.models.source_encoder import EncodedSource
from sf_model.models.spatial_transformer import SpatialTransformer, uniform_layer_map

MLLM = MLLMConfig(num_layers=4, num_attention_heads=4, num_kv_heads=2, head_dim=16, rope_theta=1e6, qk_norm=False)
FULL_WIDTH = SpatialTransformerConfig(
    64,
    96,
    2,
    1e-6,
    query_grid=4,
    stride=8,
    source_feature_dim=None,
    source_at_queries=False,
    mllm_positions=True,
)


def qwen2() -> Qwen2Model:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=50,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=MLLM.num_layers,
        num_attention_heads=MLLM.num_attention_heads,
        num_key_value_heads=MLLM.num_kv_heads,
        rope_theta=MLLM.rope_theta,
        rms_norm_eps=1e-6,
        use_cache=True,
    )
    model = Qwen2Model(config).eval()
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.2)
    return model


def keys_values(batch: int, length: int, mllm: MLLMConfig = MLLM) -> list[tuple[torch.Tensor, torch.Tensor]]:
    shape = (batch, mllm.num_kv_heads, length, mllm.head_dim)
    return [(torch.randn(shape), torch.randn(shape)) for _ in range(mllm.num_layers)]


def inputs(pairs: list[tuple[torch.Tensor, torch.Tensor]], rows: int, columns: int, **others: Any) -> ExpertInputs:
    """For a grid of rows x columns queries of FULL_WIDTH."""
    return ExpertInputs(pairs, rows * FULL_WIDTH.stride, columns * FULL_WIDTH.stride, **others)


def test_layer_map_of_the_paper() -> None:
    # floor(i * 36 / 10), computed by hand.
    assert uniform_layer_map(10, 36) == [0, 3, 7, 10, 14, 18, 21, 25, 28, 32]
    assert uniform_layer_map(4, 6) == [0, 1, 3, 4]


@torch.no_grad()
def test_a_layer_initialised_from_the_mllm_is_the_mllms_layer() -> None:
    """One own token at the last text position, over the cache of the text before it, must go through the expert's
    layer exactly as the MLLM's last token goes through the layer that it was copied from."""
    model = qwen2()
    expert = SpatialTransformer(FULL_WIDTH, MLLM)
    expert.initialize_from_mllm(model.state_dict())
    ids = torch.randint(0, 50, (2, 7))
    output = model(ids, output_hidden_states=True, use_cache=True)
    position = torch.full((2, 1, 3), 6.0)
    rotary = rotary_tables(position, MLLM.head_dim, MLLM.rope_theta)
    for layer, source in zip(expert.layers, expert.layer_map):
        cached = output.past_key_values.layers[source]
        before = output.hidden_states[source][:, -1:]
        after = layer(before, (cached.keys[:, :, :-1], cached.values[:, :, :-1]), rotary, None)
        torch.testing.assert_close(after, output.hidden_states[source + 1][:, -1:], rtol=1e-4, atol=1e-5)


def attention_by_loops(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """One sample, written out: query (H, N, d), key and value (K, S, d), seen (S,) bool -> (H, N, d)."""
    heads, length, head_dim = query.shape
    out = torch.zeros(heads, length, head_dim)
    for head in range(heads):
        group = head * len(key) // heads
        for token in range(length):
            places = [place for place in range(key.shape[1]) if seen[place]]
            scores = [query[head, token] @ key[group, place] / math.sqrt(head_dim) for place in places]
            weights = torch.stack(scores).softmax(0)
            out[head, token] = sum(weight * value[group, place] for weight, place in zip(weights, places))
    return out


@pytest.mark.parametrize("has_gradients", [True, False])  # two kernels on a CPU
@pytest.mark.parametrize("is_padded", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_attention_against_loops(kv_heads: int, is_padded: bool, has_gradients: bool) -> None:
    torch.manual_seed(1)
    query, key, value = torch.randn(2, 4, 3, 8), torch.randn(2, kv_heads, 6, 8), torch.randn(2, kv_heads, 6, 8)
    seen = torch.ones(2, 6, dtype=torch.bool)
    if is_padded:
        seen[1, 2:4] = False
    with torch.set_grad_enabled(has_gradients):
        found = grouped_attention(query, key, value, seen[:, None, None] if is_padded else None)
    for index in range(2):
        expected = attention_by_loops(query[index], key[index], value[index], seen[index])
        torch.testing.assert_close(found[index], expected, rtol=1e-5, atol=1e-6)


def rotated_by_hand(x: torch.Tensor, position: torch.Tensor, sections: tuple[int, int, int] | None) -> torch.Tensor:
    """One head's vector (16,), channel pair by channel pair: pair p is (p, p + 8), as in Qwen2."""
    axes = [0, 1, 2, 0, 1, 2, 0, 1] if sections is None else [0] * sections[0] + [1] * sections[1] + [2] * sections[2]
    out = x.clone()
    for pair, axis in enumerate(axes):
        angle = position[axis].item() / MLLM.rope_theta ** (2 * pair / 16)
        low, high = x[pair], x[pair + 8]
        out[pair] = low * math.cos(angle) - high * math.sin(angle)
        out[pair + 8] = high * math.cos(angle) + low * math.sin(angle)
    return out


@pytest.mark.parametrize("sections", [None, (2, 3, 3)])
@pytest.mark.parametrize("has_source", [False, True])
def test_a_layer_s_attention_against_loops(has_source: bool, sections: tuple[int, int, int] | None) -> None:
    """2D positions, grouped heads, a padded prompt and source tokens together, as the expert puts them together."""
    torch.manual_seed(1)
    expert = SpatialTransformer(FULL_WIDTH, MLLM, sections).eval()
    source = EncodedSource(torch.randn(2, 6, 64), (2, 3), None) if has_source else None
    pairs = keys_values(2, 5)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    given = inputs(pairs, 2, 3, prompt_mask=mask, next_position=torch.tensor([5, 9]))
    calls: list[tuple[Any, ...]] = []
    attention = expert.layers[0].self_attn
    keep = attention.register_forward_hook(lambda _, arguments, output: calls.append((*arguments, output)))
    expert(given, source)
    keep.remove()
    x, _, _, _, found = calls[0]
    cells = [[(row + 0.5) * 4 / 6**0.5, (column + 0.5) * 4 / 6**0.5] for row in range(2) for column in range(3)]
    for index, start in enumerate((5.0, 9.0)):
        positions = [[start] * 3] + [[start, start + row, start + column] for row, column in cells]
        if has_source:
            positions += [[start + 1, start + row, start + column] for row, column in cells]
        tokens = len(positions)
        query = attention.q_proj(x[index]).view(tokens, 4, 16).transpose(0, 1).detach()
        key = attention.k_proj(x[index]).view(tokens, 2, 16).transpose(0, 1).detach()
        value = attention.v_proj(x[index]).view(tokens, 2, 16).transpose(0, 1).detach()
        for place, position in enumerate(torch.tensor(positions)):
            for vectors in (query, key):
                for head in range(len(vectors)):
                    vectors[head, place] = rotated_by_hand(vectors[head, place], position, sections)
        key, value = torch.cat([pairs[0][0][index], key], dim=1), torch.cat([pairs[0][1][index], value], dim=1)
        seen = torch.cat([mask[index], torch.ones(tokens, dtype=torch.bool)])
        out = attention_by_loops(query, key, value, seen).transpose(0, 1).reshape(tokens, -1)
        torch.testing.assert_close(found[index], attention.o_proj(out), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_padded_prompts_give_what_each_gives_alone() -> None:
    torch.manual_seed(2)
    expert = SpatialTransformer(FULL_WIDTH, MLLM)
    pairs = keys_values(2, 9)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 5:] = False
    together, camera = expert(inputs(pairs, 4, 6, prompt_mask=mask))
    for index, length in ((0, 9), (1, 5)):
        own = [(k[index : index + 1, :, :length], v[index : index + 1, :, :length]) for k, v in pairs]
        alone, camera_alone = expert(inputs(own, 4, 6))
        torch.testing.assert_close(together[-1][index], alone[-1][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(camera[index], camera_alone[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_only_the_mapped_layers_are_read() -> None:
    torch.manual_seed(3)
    expert = SpatialTransformer(FULL_WIDTH, MLLM)  # reads MLLM layers 0 and 2
    pairs = keys_values(1, 5)
    before = expert(inputs(pairs, 4, 4))[0][-1]
    other = [(k + 1, v - 1) if index in (1, 3) else (k, v) for index, (k, v) in enumerate(pairs)]
    assert torch.equal(expert(inputs(other, 4, 4))[0][-1], before)
    pairs[2] = (pairs[2][0], pairs[2][1] + 1)
    assert not torch.allclose(expert(inputs(pairs, 4, 4))[0][-1], before)


def test_source_tokens_change_the_queries_and_need_not_match_their_grid() -> None:
    torch.manual_seed(4)
    expert = SpatialTransformer(FULL_WIDTH, MLLM)
    pairs = keys_values(1, 5)
    plain, _ = expert(inputs(pairs, 4, 4))
    source, _ = expert(inputs(pairs, 4, 4), EncodedSource(torch.randn(1, 6, 64), (2, 3), None))
    assert source[-1].shape == plain[-1].shape == (1, 16, 64)
    assert not torch.allclose(source[-1], plain[-1])


def test_query_positions_by_hand() -> None:
    positions = query_positions(torch.tensor([5]), rows=2, columns=2, reference_grid=2)
    assert positions[0].tolist() == [[5, 5.5, 5.5], [5, 5.5, 6.5], [5, 6.5, 5.5], [5, 6.5, 6.5]]
    # Four times the cells: the same area of positions, cells half as far apart.
    finer = query_positions(torch.tensor([5]), rows=4, columns=4, reference_grid=2)
    assert finer[0, 0].tolist() == [5, 5.25, 5.25]
    assert finer[0, -1].tolist() == [5, 6.75, 6.75]


def test_the_base_says_which_axis_turns_which_channels() -> None:
    assert rotary_axes(16, None) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert rotary_axes(16, (2, 3, 3)) == [0, 0, 1, 1, 1, 2, 2, 2]
    with pytest.raises(ValueError, match="do not make the 8 pairs"):
        rotary_axes(16, (16, 24, 24))


def test_text_goes_on_behind_an_image_by_its_longer_side() -> None:
    """Three words, an image of 2 x 3 tokens, one word; the second prompt has one word less and is padded."""
    row = [[0, 1, 2, 3, 3, 3, 3, 3, 3, 6], [0, 1, 2, 3, 3, 3, 4, 4, 4, 6], [0, 1, 2, 3, 4, 5, 3, 4, 5, 6]]
    positions = torch.tensor(row)[:, None].expand(3, 2, 10)
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[1, 9] = False
    assert next_position(positions).tolist() == [7, 7]
    assert next_position(positions, mask).tolist() == [7, 6]


def test_rows_and_columns_are_both_told_apart() -> None:
    positions = query_positions(torch.tensor([5]), rows=8, columns=8, reference_grid=8)
    cos, sin = rotary_tables(positions, head_dim=64, theta=1e6)
    vectors = torch.cat([cos, sin], dim=-1)[0, 0]
    distances = torch.cdist(vectors, vectors) + 1e9 * torch.eye(64)
    neighbours_in_row, neighbours_in_column = distances[0, 1], distances[0, 8]
    assert 0.5 < neighbours_in_row / neighbours_in_column < 2.0


def test_qk_norm_replaces_the_biases() -> None:
    expert = SpatialTransformer(FULL_WIDTH, dataclasses.replace(MLLM, qk_norm=True))
    names = set(expert.layers[0].self_attn.state_dict())
    assert {"q_norm.weight", "k_norm.weight"} <= names
    assert not any(name.endswith("bias") for name in names)
    states, _ = expert(inputs(keys_values(1, 5), 4, 4))
    assert torch.isfinite(states[-1]).all()


def test_a_narrow_expert_cannot_copy_the_mllm() -> None:
    expert = SpatialTransformer(dataclasses.replace(FULL_WIDTH, hidden_size=40), MLLM)
    with pytest.raises(ValueError, match="differ in shape; use a full-width configuration"):
        expert.initialize_from_mllm(qwen2().state_dict())


@pytest.mark.parametrize(
    ("mllm", "message"),
    [
        (dataclasses.replace(MLLM, num_layers=5), "of 5 layers, the checkpoint reads 4"),
        (dataclasses.replace(MLLM, num_kv_heads=4), "4 key/value heads of 16 channels, the checkpoint reads 2 of 16"),
        (dataclasses.replace(MLLM, head_dim=8), "2 key/value heads of 8 channels"),
    ],
)
def test_another_mllm_is_refused_by_name(mllm: MLLMConfig, message: str) -> None:
    expert = SpatialTransformer(FULL_WIDTH, MLLM)
    with pytest.raises(ValueError, match=message):
        expert(inputs(keys_values(1, 5, mllm), 4, 4))


def test_a_width_of_its_own_works() -> None:
    expert = SpatialTransformer(DUMMY.spatial_transformer, DUMMY.mllm)
    states, camera = expert(inputs(keys_values(1, 3, DUMMY.mllm), 4, 4))
    assert [state.shape for state in states] == [(1, 16, 24)] * 3
    assert camera.shape == (1, 24)
