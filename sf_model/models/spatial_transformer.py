"""The spatial transformer: an expert that runs beside the MLLM and shares its self-attention (Mixture-of-Transformers).

Each layer has its own norms and its own query/key/value, output and MLP weights. Attention is one-way: the expert reads
the MLLM's cached keys and values and its own: softmax(Q_geo [K_sem ; K_geo]^T / sqrt(d)) [V_sem ; V_geo] (arXiv
2604.26341, section 3). So the MLLM's forward never changes and is computed once. Layer i reads MLLM layer
floor(i * M / L).

Two things differ from the paper. The width is free: only the attention heads must match. A camera token predicts the
field of view, which turns the depth into metric geometry. Parameters have Qwen2's names, so that layers can be
initialised from the MLLM's.

Shapes: B batch, S prompt tokens, N expert tokens (camera, queries, layout, source), D width, H heads, K key/value
heads, d the head_dim.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F

from ..config import MLLMConfig, SpatialTransformerConfig
from .attention import grouped_attention
from .expert_inputs import ExpertInputs, KeysValues
from .layout_encoder import EncodedLayout
from .rotary import apply_rotary, query_positions, rotary_tables
from .source_encoder import EncodedSource


def uniform_layer_map(num_layers: int, num_mllm_layers: int) -> list[int]:
    """The MLLM layer that each layer of the spatial transformer reads: floor(i * M / L)."""
    return [i * num_mllm_layers // num_layers for i in range(num_layers)]


class SharedAttention(nn.Module):
    """Attention of the expert's tokens over the MLLM's keys and values and their own."""

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
        """(B, N, D). prompt_kv: each (B, K, S, d). mask: (B, 1, 1, S + N) bool, or None."""
        batch, length, _ = x_BND.shape
        q_BHNd = self.q_proj(x_BND).view(batch, length, self.num_heads, self.head_dim)
        k_BKNd = self.k_proj(x_BND).view(batch, length, self.num_kv_heads, self.head_dim)
        v_BKNd = self.v_proj(x_BND).view(batch, length, self.num_kv_heads, self.head_dim).transpose(1, 2)
        if self.qk_norm:
            q_BHNd, k_BKNd = self.q_norm(q_BHNd), self.k_norm(k_BKNd)
        q_BHNd = apply_rotary(q_BHNd.transpose(1, 2), *rotary)
        k_BKNd = apply_rotary(k_BKNd.transpose(1, 2), *rotary)
        prompt_k, prompt_v = prompt_kv
        k = torch.cat([prompt_k.to(k_BKNd.dtype), k_BKNd], dim=2)
        v = torch.cat([prompt_v.to(v_BKNd.dtype), v_BKNd], dim=2)
        out = grouped_attention(q_BHNd, k, v, mask)
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
    """Learnable queries on a grid, a camera token and the tokens of a source image -> states of every layer."""

    def __init__(
        self,
        config: SpatialTransformerConfig,
        mllm: MLLMConfig,
        rope_sections: tuple[int, int, int] | None = None,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        """rope_sections: as in `Backbone`."""
        super().__init__()
        self.config, self.mllm, self.rope_sections = config, mllm, rope_sections
        self.layer_map = uniform_layer_map(config.num_layers, mllm.num_layers)
        # Embeddings, not bare parameters: the host's operations cast and offload their weight like any layer's.
        self.queries = operations.Embedding(config.query_grid**2, config.hidden_size, dtype=dtype, device=device)
        self.camera = operations.Embedding(1, config.hidden_size, dtype=dtype, device=device)
        self.layers = nn.ModuleList(
            SpatialTransformerLayer(config, mllm, operations, dtype, device) for _ in range(config.num_layers)
        )

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of queries for an image of height x width pixels."""
        return max(1, round(height / self.config.stride)), max(1, round(width / self.config.stride))

    def forward(
        self,
        inputs: ExpertInputs,
        source: EncodedSource | None = None,
        noise: tuple[torch.Tensor, torch.Tensor] | None = None,
        layout: EncodedLayout | None = None,
    ) -> tuple[list[torch.Tensor], torch.Tensor]:
        """States of the query grid after every layer, each (B, rows * columns, D), and the camera's last state (B, D).

        noise: from `DepthFlowInput`. The first tensor (B, rows * columns, D) is added to the queries, the second
        (B, 1, D) to queries and camera. ValueError if the keys/values are not from the checkpoint's MLLM.
        """
        self._check(inputs.keys_values)
        rows, columns = self.grid(inputs.height, inputs.width)
        x = self._tokens(inputs, rows, columns, source, noise, layout)
        positions = self._positions(inputs.query_start, rows, columns, source, layout)
        rotary = rotary_tables(positions, self.mllm.head_dim, self.mllm.rope_theta, self.rope_sections)
        mask = None if inputs.prompt_mask is None else attention_mask(inputs.prompt_mask, x.shape[1])
        states = []
        for layer, mllm_layer in zip(self.layers, self.layer_map):
            if inputs.on_layer is not None:
                inputs.on_layer()
            x = layer(x, inputs.keys_values[mllm_layer], rotary, mask)
            states.append(x[:, 1 : 1 + rows * columns])
        return states, x[:, 0]

    def _tokens(
        self,
        inputs: ExpertInputs,
        rows: int,
        columns: int,
        source: EncodedSource | None,
        noise: tuple[torch.Tensor, torch.Tensor] | None,
        layout: EncodedLayout | None,
    ) -> torch.Tensor:
        """(B, N, D): camera, queries row by row, layout, source."""
        keys, dtype = inputs.keys_values[0][0], inputs.computing_dtype
        camera = self.camera(torch.zeros(1, 1, dtype=torch.long, device=keys.device)).to(dtype)
        camera = camera.expand(len(keys), 1, -1)
        queries = self._query_tokens(rows, columns, keys.device, dtype).expand(len(keys), -1, -1)
        if noise is not None:
            tokens, time = noise
            camera, queries = camera + time, queries + tokens + time
        others = []
        if layout is not None:
            queries = queries + layout.camera[:, None].to(dtype)
            others.append(layout.tokens.to(dtype))
        if source is not None:
            if source.at_queries is not None:
                queries = queries + source.at_queries.to(dtype)
            others.append(source.tokens.to(dtype))
        return torch.cat([camera, queries, *others], dim=1)

    def _positions(
        self,
        start: torch.Tensor,
        rows: int,
        columns: int,
        source: EncodedSource | None,
        layout: EncodedLayout | None,
    ) -> torch.Tensor:
        """(B, N, 3). The camera has the position at which the queries begin; an object that of its place."""
        camera = start.float().view(-1, 1, 1).expand(-1, 1, 3)
        positions = [camera, query_positions(start, rows, columns, self.config.query_grid)]
        if layout is not None:
            scale = self.config.query_grid / (rows * columns) ** 0.5
            places = layout.places * torch.tensor([rows * scale, columns * scale], device=start.device)
            positions.append(F.pad(places, (1, 0)) + start.float().view(-1, 1, 1))
        if source is not None:
            # One step further on the first axis than the queries: the same cells of another image.
            cells = query_positions(start, *source.grid, self.config.query_grid)
            positions.append(cells + torch.tensor([1.0, 0.0, 0.0], device=start.device))
        return torch.cat(positions, dim=1)

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
                "load the text encoder that the checkpoint was trained with: the MLLM gave keys/values of "
                f"{len(keys_values)} layers, the checkpoint reads {self.mllm.num_layers}"
            )
        kv_heads, head_dim = keys_values[0][0].shape[1], keys_values[0][0].shape[3]
        if (kv_heads, head_dim) != (self.mllm.num_kv_heads, self.mllm.head_dim):
            raise ValueError(
                "load the text encoder that the checkpoint was trained with: the MLLM has "
                f"{kv_heads} key/value heads of {head_dim} channels, the checkpoint reads {self.mllm.num_kv_heads} of "
                f"{self.mllm.head_dim}"
            )

    def initialize_from_mllm(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Copy the MLLM layers that are read (Qwen2 names, `layers.<j>.*`) into this expert.

        ValueError if a size differs: a narrower expert must start from its own initialisation.
        """
        for layer, mllm_layer in zip(self.layers, self.layer_map):
            prefix = f"layers.{mllm_layer}."
            own = layer.state_dict()
            theirs = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
            differing = sorted(
                name for name in own.keys() | theirs.keys() if _shape(own.get(name)) != _shape(theirs.get(name))
            )
            if differing:
                raise ValueError(
                    f"MLLM layer {mllm_layer} cannot initialise the spatial transformer: {differing[:3]} differ in "
                    "shape; use a full-width configuration or start from scratch"
                )
            layer.load_state_dict(theirs)


def _shape(value: torch.Tensor | None) -> tuple[int, ...] | None:
    return None if value is None else tuple(value.shape)


def attention_mask(prompt_mask: torch.Tensor, expert_tokens: int) -> torch.Tensor:
    """(B, 1, 1, S + N) bool: every expert token sees the prompt's tokens but not its padding, and all expert tokens.

    prompt (S = 4, one of padding)   expert (N = 3)
          1  1  1  0                    1  1  1
    """
    expert = prompt_mask.new_ones(prompt_mask.shape[0], expert_tokens)
    return torch.cat([prompt_mask, expert], dim=1)[:, None, None, :]
