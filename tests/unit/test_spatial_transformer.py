"""The spatial transformer against transformers' Qwen2 and against a naive shared attention."""

import dataclasses
import math

import pytest
import torch
from transformers import Qwen2Config, Qwen2Model

from sf_model.config import DUMMY, MLLMConfig, SpatialTransformerConfig
from sf_model.models.rotary import query_positions, rotary_tables
from sf_model.models.spatial_transformer import SharedAttention, SpatialTransformer, uniform_layer_map

MLLM = MLLMConfig(num_layers=4, num_attention_heads=4, num_kv_heads=2, head_dim=16, rope_theta=1e6, qk_norm=False)
FULL_WIDTH = SpatialTransformerConfig(
    64, 96, 2, 1e-6, query_grid=4, stride=8, source_feature_dim=None, source_at_queries=False
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


@torch.no_grad()
def test_attention_against_loops() -> None:
    torch.manual_seed(1)
    attention = SharedAttention(FULL_WIDTH, MLLM, torch.nn, None, None)
    x, (prompt_k, prompt_v) = torch.randn(1, 3, 64), keys_values(1, 5)[0]
    unrotated = rotary_tables(torch.zeros(1, 3, 3), MLLM.head_dim, MLLM.rope_theta)
    query = attention.q_proj(x).view(3, 4, 16)
    key = torch.cat([prompt_k[0].transpose(0, 1), attention.k_proj(x).view(3, 2, 16)])
    value = torch.cat([prompt_v[0].transpose(0, 1), attention.v_proj(x).view(3, 2, 16)])
    rows = []
    for token in range(3):
        heads = []
        for head in range(4):
            scores = torch.stack([query[token, head] @ key[s, head // 2] / math.sqrt(16) for s in range(8)])
            heads.append(sum(weight * value[s, head // 2] for s, weight in enumerate(scores.softmax(0))))
        rows.append(torch.cat(heads))
    expected = attention.o_proj(torch.stack(rows))[None]
    torch.testing.assert_close(attention(x, (prompt_k, prompt_v), unrotated, None), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_padded_prompts_give_what_each_gives_alone() -> None:
    torch.manual_seed(2)
    expert = SpatialTransformer(FULL_WIDTH, MLLM)
    pairs = keys_values(2, 9)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 5:] = False
    together, camera = expert(pairs, 4, 6, mask)
    for index, length in ((0, 9), (1, 5)):
        alone, camera_alone = expert(
            [(k[index : index + 1, :, :length], v[index : index + 1, :, :length]) for k, v in pairs], 4, 6
        )
        torch.testing.assert_close(together[-1][index], alone[-1][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(camera[index], camera_alone[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_only_the_mapped_layers_are_read() -> None:
    torch.manual_seed(3)
    expert = SpatialTransformer(FULL_WIDTH, MLLM)  # reads MLLM layers 0 and 2
    pairs = keys_values(1, 5)
    before = expert(pairs, 4, 4)[0][-1]
    other = [(k + 1, v - 1) if index in (1, 3) else (k, v) for index, (k, v) in enumerate(pairs)]
    assert torch.equal(expert(other, 4, 4)[0][-1], before)
    pairs[2] = (pairs[2][0], pairs[2][1] + 1)
    assert not torch.allclose(expert(pairs, 4, 4)[0][-1], before)


def test_source_tokens_change_the_queries_and_need_not_match_their_grid() -> None:
    torch.manual_seed(4)
    expert = SpatialTransformer(FULL_WIDTH, MLLM)
    pairs = keys_values(1, 5)
    plain, _ = expert(pairs, 4, 4)
    source, _ = expert(pairs, 4, 4, source_tokens=torch.randn(1, 6, 64), source_grid=(2, 3))
    assert source[-1].shape == plain[-1].shape == (1, 16, 64)
    assert not torch.allclose(source[-1], plain[-1])


def test_query_positions_by_hand() -> None:
    positions = query_positions(torch.tensor([5]), rows=2, columns=2, reference_grid=2)
    assert positions[0].tolist() == [[5, 5.5, 5.5], [5, 5.5, 6.5], [5, 6.5, 5.5], [5, 6.5, 6.5]]
    # Four times the cells: the same area of positions, cells half as far apart.
    finer = query_positions(torch.tensor([5]), rows=4, columns=4, reference_grid=2)
    assert finer[0, 0].tolist() == [5, 5.25, 5.25]
    assert finer[0, -1].tolist() == [5, 6.75, 6.75]


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
    states, _ = expert(keys_values(1, 5), 4, 4)
    assert torch.isfinite(states[-1]).all()


def test_a_narrow_expert_cannot_copy_the_mllm() -> None:
    expert = SpatialTransformer(dataclasses.replace(FULL_WIDTH, hidden_size=40), MLLM)
    with pytest.raises(ValueError, match="differ in shape; use a full-width configuration"):
        expert.initialize_from_mllm(qwen2().state_dict())


@pytest.mark.parametrize(
    ("mllm", "message"),
    [
        (dataclasses.replace(MLLM, num_layers=5), "of 5 layers, this checkpoint reads 4"),
        (dataclasses.replace(MLLM, num_kv_heads=4), "4 key/value heads of 16 channels, this checkpoint reads 2 of 16"),
        (dataclasses.replace(MLLM, head_dim=8), "2 key/value heads of 8 channels"),
    ],
)
def test_another_mllm_is_refused_by_name(mllm: MLLMConfig, message: str) -> None:
    expert = SpatialTransformer(FULL_WIDTH, MLLM)
    with pytest.raises(ValueError, match=message):
        expert(keys_values(1, 5, mllm), 4, 4)


def test_a_width_of_its_own_works() -> None:
    expert = SpatialTransformer(DUMMY.spatial_transformer, DUMMY.mllm)
    states, camera = expert(keys_values(1, 3, DUMMY.mllm), 4, 4)
    assert [state.shape for state in states] == [(1, 16, 24)] * 3
    assert camera.shape == (1, 24)
