"""Attention with grouped key/value heads, for the spatial transformer and OmniGen2's trainable copy.

Shapes: B batch, N queries, S keys, H heads, K key/value heads, d the head_dim.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def grouped_attention(
    q_BHNd: torch.Tensor, k_BKSd: torch.Tensor, v_BKSd: torch.Tensor, key_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """softmax(q k^T / sqrt(d)) v -> (B, H, N, d). Query head h reads key/value head h * K // H.

    key_mask: (B, 1, 1, S) bool, True for keys that every query of the sample sees; None for all.
    """
    batch, heads, length, head_dim = q_BHNd.shape
    # The heads of a group are neighbours. As more queries of one head they need no copies of keys and values.
    grouped = q_BHNd.reshape(batch, k_BKSd.shape[1], -1, head_dim)
    if torch.is_grad_enabled() and q_BHNd.device.type == "cpu":
        out = _by_products(grouped, k_BKSd, v_BKSd, key_mask)
    else:
        out = F.scaled_dot_product_attention(grouped, k_BKSd, v_BKSd, attn_mask=key_mask)
    return out.reshape(batch, heads, length, head_dim)


def _by_products(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, key_mask: torch.Tensor | None) -> torch.Tensor:
    """Attention with the scores in memory. On a CPU the backward pass of the fused kernel is slower."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if key_mask is not None:
        scores = scores.masked_fill(~key_mask, float("-inf"))
    return scores.softmax(dim=-1).to(v.dtype) @ v
