"""Attention with grouped key/value heads, by the kernel that is fastest where it runs."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """query (B, heads, N, d), key and value (B, kv_heads, S, d), mask (B, 1, 1, S) bool, True = attend, or None ->
    (B, heads, N, d). Every query head reads the key/value head of its group, in order."""
    if torch.is_grad_enabled() and query.device.type == "cpu":
        return _attend_by_matmul(query, key, value, mask)
    # Not enable_gqa: in the oldest torch that hosts have, it leaves the fused kernels.
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def _attend_by_matmul(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """The same with the scores in memory: the CPU's fused kernel takes four times as long forth and back in bf16."""
    batch, heads, length, head_dim = query.shape
    kv_heads = key.shape[1]
    grouped_q = (query * head_dim**-0.5).reshape(batch * kv_heads, -1, head_dim)
    scores = torch.bmm(grouped_q, key.flatten(0, 1).transpose(1, 2))
    if mask is not None:
        grouped_mask = mask.expand(batch, kv_heads, 1, -1).reshape(batch * kv_heads, 1, -1)
        scores = scores.masked_fill(~grouped_mask, float("-inf"))
    return torch.bmm(scores.softmax(dim=-1), value.flatten(0, 1)).view(batch, heads, length, head_dim)
