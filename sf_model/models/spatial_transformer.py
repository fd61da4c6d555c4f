"""The spatial transformer: an expert that runs beside the MLLM and shares its self-attention (Mixture-of-Transformers).

Own norms, query/key/value, output and MLP weights per layer; attention is one-way over the MLLM's cached keys and
values and its own, softmax(Q_geo [K_sem ; K_geo]^T / sqrt(d)) [V_sem ; V_geo] (arXiv 2604.26341, section 3), so the
MLLM's forward never changes and is computed once. Layer i reads MLLM layer floor(i * M / L). Unlike the published one,
the width is free (only the attention heads must match) and a camera token gives the field of view that makes depth
metric geometry. Parameter names are those of Qwen2, so that layers can be initialised from the MLLM's own.

Shapes: B batch, S prompt tokens, N own tokens (camera, queries, source), D width, H heads, K key/value heads, d the
head_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..config import MLLMConfig, SpatialTransformerConfig
from .rotary import apply_rotary, query_positions, rotary_tables

KeysValues = Sequence[tuple[torch.Tensor, torch.Tensor]]


def uniform_layer_map(num_layers: int, num_mllm_layers: int) -> list[int]:
    """The MLLM layer that each of the spatial transformer's layers reads: floor(i * M / L)."""
    return [i * num_mllm_layers // num_layers for i in range(num_layers)]


class SharedAttention(nn.Module):
    """Attention of the own tokens over the MLLM's keys and values and their own, with grouped key/value heads."""

    def __init__(
        self, config: SpatialTransformerConfig, mllm: MLLMConfig, operations: Any, dtype: Any, device: Any
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = mllm.num_attention_heads, mllm.num_kv_heads, mllm.head_dim
        width, factory = config.hidden_size, {"dtype": dtype, "device": device}
        # Qwen2 has a bias on query, key and value; the Qwen3 family has q/k norms instead.
        bias = not mllm.qk_norm
        self.q_proj = operations.Linear(width, self.num_heads * self.head_dim, bias=bias, **factory)
        self.k_proj = operations.Linear(width, self.num_kv_heads * self.head_dim, bias=bias, **factory)
        self.v_proj = operations.Linear(width, self.num_kv_heads * self.head_dim, bias=bias, **factory)
        self.o_proj = operations.Linear(self.num_heads * self.head_dim, width, bias=False, **factory)
        if mllm.qk_norm:
            self.q_norm = operations.RMSNorm(self.head_dim, eps=config.rms_norm_eps, **factory)
            self.k_norm = operations.RMSNorm(self.head_dim, eps=config.rms_norm_eps, **factory)
        self.qk_norm = mllm.qk_norm

    def forward(
        self,
        x_BND: torch.Tensor,
        prompt_kv: tuple[torch.Tensor, torch.Tensor],
        rotary: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        batch, length, _ = x_BND.shape
        q_BHNd = self.q_proj(x_BND).view(batch, length, self.num_heads, self.head_dim)
        k_BKNd = self.k_proj(x_BND).view(batch, length, self.num_kv_heads, self.head_dim)
        v_BKNd = self.v_proj(x_BND).view(batch, length, self.num_kv_heads, self.head_dim).transpose(1, 2)
        if self.qk_norm:
            q_BHNd, k_BKNd = self.q_norm(q_BHNd), self.k_norm(k_BKNd)
        q_BHNd = apply_rotary(q_BHNd.transpose(1, 2), *rotary)
        k_BKNd = apply_rotary(k_BKNd.transpose(1, 2), *rotary)
        prompt_k, prompt_v = prompt_kv
        groups = self.num_heads // self.num_kv_heads
        k = torch.cat([prompt_k.to(k_BKNd.dtype), k_BKNd], dim=2).repeat_interleave(groups, dim=1)
        v = torch.cat([prompt_v.to(v_BKNd.dtype), v_BKNd], dim=2).repeat_interleave(groups, dim=1)
        out = F.scaled_dot_product_attention(q_BHNd, k, v, attn_mask=mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, length, -1))


class GatedMLP(nn.Module):
    """SwiGLU, with the MLLM's parameter names."""

    def __init__(self, width: int, intermediate_size: int, operations: Any, dtype: Any, device: Any) -> None:
        super().__init__()
        self.gate_proj = operations.Linear(width, intermediate_size, bias=False, dtype=dtype, device=device)
        self.up_proj = operations.Linear(width, intermediate_size, bias=False, dtype=dtype, device=device)
        self.down_proj = operations.Linear(intermediate_size, width, bias=False, dtype=dtype, device=device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class SpatialTransformerLayer(nn.Module):
    """Pre-norm block: shared attention, then MLP."""

    def __init__(
        self, config: SpatialTransformerConfig, mllm: MLLMConfig, operations: Any, dtype: Any, device: Any
    ) -> None:
        super().__init__()
        width, norm = config.hidden_size, {"eps": config.rms_norm_eps, "dtype": dtype, "device": device}
        self.input_layernorm = operations.RMSNorm(width, **norm)
        self.self_attn = SharedAttention(config, mllm, operations, dtype, device)
        self.post_attention_layernorm = operations.RMSNorm(width, **norm)
        self.mlp = GatedMLP(width, config.intermediate_size, operations, dtype, device)

    def forward(
        self,
        x: torch.Tensor,
        prompt_kv: tuple[torch.Tensor, torch.Tensor],
        rotary: tuple[torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), prompt_kv, rotary, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class SpatialTransformer(nn.Module):
    """Learnable queries on a grid, a camera token and optional source features -> geometric states of every layer."""

    def __init__(
        self,
        config: SpatialTransformerConfig,
        mllm: MLLMConfig,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.config, self.mllm = config, mllm
        self.layer_map = uniform_layer_map(config.num_layers, mllm.num_layers)
        # Embeddings, not bare parameters: the host's operations cast and offload their weight like any layer's.
        self.queries = operations.Embedding(config.query_grid**2, config.hidden_size, dtype=dtype, device=device)
        self.camera = operations.Embedding(1, config.hidden_size, dtype=dtype, device=device)
        self.layers = nn.ModuleList(
            SpatialTransformerLayer(config, mllm, operations, dtype, device) for _ in range(config.num_layers)
        )

    def forward(
        self,
        keys_values: KeysValues,
        rows: int,
        columns: int,
        prompt_mask: torch.Tensor | None = None,
        source_tokens: torch.Tensor | None = None,
        source_grid: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
        on_layer: Callable[[], None] | None = None,
        added: tuple[torch.Tensor, torch.Tensor] | None = None,
        source_at_queries: torch.Tensor | None = None,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """States of the query grid after every layer, each (B, rows * columns, D), and the camera's last state (B, D).

        keys_values: one (K, V) a MLLM layer, each (B, K, S, d), after RoPE. prompt_mask: (B, S) bool, True for tokens;
        None where no prompt is padded. source_tokens: (B, N, D) of the source image on `source_grid` = (rows, columns).
        dtype: computing type, by default that of the keys. on_layer: called before every layer, for progress and
        cancelling. added: what a noisy depth adds to the queries (B, rows * columns, D) and, with its time, to them and
        the camera (B, 1, D). source_at_queries: (B, rows * columns, D) that the source adds to the queries.
        """
        self._check(keys_values)
        keys = keys_values[0][0]
        batch, _, prompt_length, _ = keys.shape
        dtype = dtype or keys.dtype
        lengths = (
            torch.full((batch,), prompt_length, device=keys.device) if prompt_mask is None else prompt_mask.sum(dim=1)
        )
        camera = self.camera(torch.zeros(1, 1, dtype=torch.long, device=keys.device)).to(dtype).expand(batch, 1, -1)
        queries = self._query_tokens(rows, columns, keys.device, dtype).expand(batch, -1, -1)
        if added is not None:
            tokens, time = added
            camera, queries = camera + time, queries + tokens + time
        if source_at_queries is not None:
            queries = queries + source_at_queries.to(dtype)
        x = torch.cat([camera, queries], dim=1)
        grid_positions = query_positions(lengths, rows, columns, self.config.query_grid)
        camera_position = lengths.float().view(-1, 1, 1).expand(batch, 1, 3)
        positions = [camera_position, grid_positions]
        if source_tokens is not None:
            assert source_grid is not None
            x = torch.cat([x, source_tokens.to(dtype)], dim=1)
            # One step further on the first axis than the queries: same cells, another image.
            source_positions = query_positions(lengths, *source_grid, self.config.query_grid)
            positions.append(source_positions + torch.tensor([1.0, 0.0, 0.0], device=keys.device))
        rotary = rotary_tables(torch.cat(positions, dim=1), self.mllm.head_dim, self.mllm.rope_theta)
        mask = None if prompt_mask is None else _attention_mask(prompt_mask, x.shape[1])
        states = []
        for layer, source_layer in zip(self.layers, self.layer_map):
            if on_layer is not None:
                on_layer()
            x = layer(x, keys_values[source_layer], rotary, mask)
            states.append(x[:, 1 : 1 + rows * columns])
        return states, x[:, 0]

    def _query_tokens(self, rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        side = self.config.query_grid
        tokens = self.queries(torch.arange(side * side, device=device)).to(dtype)
        if (rows, columns) == (side, side):
            return tokens.unsqueeze(0)
        grid = tokens.view(1, side, side, -1).permute(0, 3, 1, 2).float()
        grid = F.interpolate(grid, size=(rows, columns), mode="bilinear", align_corners=False)
        return grid.flatten(2).transpose(1, 2).to(dtype)

    def _check(self, keys_values: KeysValues) -> None:
        if len(keys_values) != self.mllm.num_layers:
            raise ValueError(
                f"the MLLM gave keys/values of {len(keys_values)} layers, this checkpoint reads "
                f"{self.mllm.num_layers}; "
                "load the text encoder that it was trained with"
            )
        kv_heads, head_dim = keys_values[0][0].shape[1], keys_values[0][0].shape[3]
        if (kv_heads, head_dim) != (self.mllm.num_kv_heads, self.mllm.head_dim):
            raise ValueError(
                f"the MLLM has {kv_heads} key/value heads of {head_dim} channels, this checkpoint reads "
                f"{self.mllm.num_kv_heads} of {self.mllm.head_dim}; load the text encoder that it was trained with"
            )

    def initialize_from_mllm(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Copy the layers that are read (Qwen2 names, `layers.<j>.*`) into this expert, which must have their sizes.

        Raises ValueError where a size differs: a narrow expert starts from its own initialisation.
        """
        for layer, source_layer in zip(self.layers, self.layer_map):
            prefix = f"layers.{source_layer}."
            own = layer.state_dict()
            theirs = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
            differing = sorted(
                name for name in own.keys() | theirs.keys() if _shape(own.get(name)) != _shape(theirs.get(name))
            )
            if differing:
                raise ValueError(
                    f"MLLM layer {source_layer} cannot initialise the spatial transformer: {differing[:3]} differ in "
                    "shape; use a full-width configuration or start from scratch"
                )
            layer.load_state_dict(theirs)


def _shape(value: torch.Tensor | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value.shape)


def _attention_mask(prompt_mask: torch.Tensor, num_own: int) -> torch.Tensor:
    """(B, 1, 1, S + N) bool: own tokens see every prompt token that is not padding, and each other.

    prompt (S = 4, one of padding)   own (N = 3)
          1  1  1  0                   1  1  1
    """
    own = prompt_mask.new_ones(prompt_mask.shape[0], num_own)
    return torch.cat([prompt_mask, own], dim=1)[:, None, None, :]
