"""A trainable copy of ComfyUI's OmniGen2 diffusion transformer.

It is built from diffusers' Lumina2 blocks, which have OmniGen2's parameter names. OmniGen2 adds the reference-image
refiner, its patch embedder and the image-index embedding. The state dict of this class and of the host's
`comfy.ldm.omnigen.omnigen2.OmniGen2Transformer2DModel` are the same. Differences from the host:

- forward returns data - noise, and time 1 is clean data (the official convention); the host has the opposite of both;
- texts of different lengths in one batch are masked, so each sample equals the host's result for its prompt alone;
- `depth_tokens` can be added to the image's patch embeddings.

Original: https://github.com/VectorSpaceLab/OmniGen2 (Apache-2.0).

Shapes: B batch, S sequence, N patches, heads, kv_heads, D head width, R = D / 2 rotation pairs.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import Timesteps
from diffusers.models.normalization import LuminaLayerNormContinuous
from diffusers.models.transformers.transformer_lumina2 import (
    Lumina2CombinedTimestepCaptionEmbedding,
    Lumina2TransformerBlock,
)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...models.attention import grouped_attention
from .rms_norm import replace_rms_norms
from .sizes import OmniGen2Config

ROPE_THETA = 10000.0
MAX_REFERENCE_IMAGES = 5
FREQUENCY_EMBEDDING_SIZE = 256


@lru_cache(maxsize=32)
def _rotation_table(dim: int, length: int, device: torch.device) -> Tensor:
    """(length, dim / 2) complex64 rotations of positions 0 .. length - 1."""
    omega = ROPE_THETA ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), omega)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64).to(device)


def _rotations(positions: Tensor, max_position: int, axes_dim: Sequence[int]) -> Tensor:
    """Position ids (..., 3), none above max_position -> (..., R) complex64."""
    length = 1 << max_position.bit_length()  # powers of two keep the number of cached tables small
    tables = [_rotation_table(dim, length, positions.device) for dim in axes_dim]
    return torch.cat([table[positions[..., axis]] for axis, table in enumerate(tables)], dim=-1)


def _grid_positions(height: int, width: int, device: torch.device) -> Tensor:
    """(height * width, 3) position ids (0, row, column), row by row."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).flatten(0, 1).to(device)


def _patchify(image: Tensor, patch_size: int) -> tuple[Tensor, tuple[int, int]]:
    """(B, C, h, w) -> patches (B, N, p * p * C) and the (rows, columns) of the grid.

    Sizes that are not multiples of the patch get circular padding at the bottom and right, as in the host.
    """
    pad_h, pad_w = -image.shape[2] % patch_size, -image.shape[3] % patch_size
    if pad_h or pad_w:
        image = F.pad(image, (0, pad_w, 0, pad_h), mode="circular")
    grid = image.shape[2] // patch_size, image.shape[3] // patch_size
    patches = image.unflatten(3, (grid[1], patch_size)).unflatten(2, (grid[0], patch_size))
    return patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2), grid


def _unpatchify(patches: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """(B, N, p * p * C) -> (B, C, rows * p, columns * p)."""
    image = patches.unflatten(2, (patch_size, patch_size, -1)).unflatten(1, grid)
    return image.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def _rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Rotate each pair of neighbouring channels of x (B, S, heads, D) by rotations (B or 1, S, R) complex64."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotations.unsqueeze(2)).flatten(3).type_as(x)


class OmniGen2AttnProcessor:
    """Lumina2's attention with an optional mask. It does not copy keys and values for each query head."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Tensor | None = None,
    ) -> Tensor:
        """hidden_states (B, S, dim), attention_mask (B, 1, 1, S) bool with True = attend -> (B, S, dim)."""
        query = attn.norm_q(attn.to_q(hidden_states).unflatten(-1, (attn.heads, -1)))
        head_dim = query.shape[-1]
        key = attn.norm_k(attn.to_k(encoder_hidden_states).unflatten(-1, (-1, head_dim)))
        value = attn.to_v(encoder_hidden_states).unflatten(-1, (-1, head_dim))
        query, key = (_rotate(x, image_rotary_emb).type_as(value) for x in (query, key))
        output = grouped_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attention_mask)
        return attn.to_out[0](output.transpose(1, 2).flatten(2))


def _block(config: OmniGen2Config, modulation: bool) -> Lumina2TransformerBlock:
    block = Lumina2TransformerBlock(
        config.hidden_size,
        config.num_attention_heads,
        config.num_kv_heads,
        config.multiple_of,
        None,
        config.norm_eps,
        modulation=modulation,
    )
    block.attn.set_processor(OmniGen2AttnProcessor())
    block.feed_forward.silu = nn.SiLU()  # Lumina2's makes float32 copies; this kernel computes in float32 without them
    return block


class OmniGen2Transformer(nn.Module):
    """OmniGen2's diffusion transformer: text, reference images and a noisy latent in; a velocity out."""

    def __init__(self, config: OmniGen2Config) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        hidden, patch_dim = config.hidden_size, config.patch_size**2 * config.in_channels
        self.x_embedder = nn.Linear(patch_dim, hidden)
        self.ref_image_patch_embedder = nn.Linear(patch_dim, hidden)
        self.time_caption_embed = Lumina2CombinedTimestepCaptionEmbedding(
            hidden, config.text_feat_dim, FREQUENCY_EMBEDDING_SIZE, config.norm_eps
        )
        self.time_caption_embed.time_proj = Timesteps(
            FREQUENCY_EMBEDDING_SIZE, flip_sin_to_cos=True, downscale_freq_shift=0.0, scale=config.timestep_scale
        )
        refiners = range(config.num_refiner_layers)
        self.noise_refiner = nn.ModuleList(_block(config, modulation=True) for _ in refiners)
        self.ref_image_refiner = nn.ModuleList(_block(config, modulation=True) for _ in refiners)
        self.context_refiner = nn.ModuleList(_block(config, modulation=False) for _ in refiners)
        self.layers = nn.ModuleList(_block(config, modulation=True) for _ in range(config.num_layers))
        self.norm_out = LuminaLayerNormContinuous(
            hidden, min(hidden, 1024), elementwise_affine=False, eps=1e-6, out_dim=patch_dim
        )
        self.image_index_embedding = nn.Parameter(torch.empty(MAX_REFERENCE_IMAGES, hidden))
        replace_rms_norms(self)
        self.initialize_weights()

    def initialize_weights(self) -> None:
        """Initialise as OmniGen2 does: every modulated block starts as the identity, the output as zero."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                if name.startswith("time_caption_embed"):
                    nn.init.normal_(module.weight, std=0.02)
                elif name.endswith("norm1.linear") or name.startswith("norm_out"):
                    nn.init.zeros_(module.weight)
                else:
                    nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.image_index_embedding, std=0.02)

    def enable_gradient_checkpointing(self, enabled: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping its activations."""
        self.gradient_checkpointing = enabled

    def forward(
        self,
        latent: Tensor,
        timestep: Tensor,
        text_hidden_states: Tensor,
        text_attention_mask: Tensor | None = None,
        reference_latents: Sequence[Tensor] | None = None,
        depth_tokens: Tensor | None = None,
    ) -> Tensor:
        """Predict the velocity data - noise.

        latent: (B, C, H, W). timestep: (B,) in [0, 1], 1 = clean data. text_hidden_states: (B, S, text_feat_dim).
        text_attention_mask: (B, S) bool, True = a token of the prompt, padding on the right; None = no padding.
        reference_latents: up to five (B, C, h, w) of any sizes. depth_tokens: (B, N, hidden_size), one for each patch
        of the latent, added to its embedding. Returns (B, C, H, W), the negative of the host's result.
        Raises ValueError for more than five reference images.
        """
        image, grid = _patchify(latent, self.config.patch_size)
        references = [_patchify(reference, self.config.patch_size) for reference in reference_latents or ()]
        if len(references) > MAX_REFERENCE_IMAGES:
            raise ValueError(f"{len(references)} reference images; OmniGen2 takes at most {MAX_REFERENCE_IMAGES}")
        if text_attention_mask is not None and bool(text_attention_mask.all()):
            text_attention_mask = None
        temb, text = self.time_caption_embed(text_hidden_states, timestep, text_hidden_states)
        rotations = self._rotations(text, text_attention_mask, [size for _, size in references], grid)
        ends = text.shape[1], rotations.shape[1] - image.shape[1]

        text_mask, joint_mask = _attention_masks(text_attention_mask, rotations.shape[1])
        text = self._run(self.context_refiner, text, text_mask, rotations[:, : ends[0]])
        image = self.x_embedder(image)
        if depth_tokens is not None:
            image = image + depth_tokens
        streams = [text, self._run(self.noise_refiner, image, None, rotations[:, ends[1] :], temb)]
        if references:
            embedded = [
                self.ref_image_patch_embedder(patches) + self.image_index_embedding[index]
                for index, (patches, _) in enumerate(references)
            ]
            reference_rotations = rotations[:, ends[0] : ends[1]]
            streams.insert(
                1, self._run(self.ref_image_refiner, torch.cat(embedded, dim=1), None, reference_rotations, temb)
            )
        joint = self._run(self.layers, torch.cat(streams, dim=1), joint_mask, rotations, temb)
        output = self.norm_out(joint[:, ends[1] :], temb)
        return _unpatchify(output, grid, self.config.patch_size)[:, :, : latent.shape[2], : latent.shape[3]]

    def _rotations(
        self, text: Tensor, text_mask: Tensor | None, reference_grids: list[tuple[int, int]], grid: tuple[int, int]
    ) -> Tensor:
        """(B or 1, S_text + S_references + S_image, R) complex64.

        A text token's three ids are its index. An image's first id is the text's length plus the longer sides of the
        images before it; the other two are row and column.
        """
        device = text.device
        text_length = text.shape[1]
        positions = [torch.arange(text_length, device=device)[:, None].expand(-1, 3)]
        offset = 0
        for height, width in [*reference_grids, grid]:
            shift = torch.tensor([[offset, 0, 0]], device=device)
            positions.append(_grid_positions(height, width, device) + shift)
            offset += max(height, width)
        ids = torch.cat(positions).unsqueeze(0)
        is_image = torch.arange(ids.shape[1], device=device) >= text_length
        if text_mask is None:
            lengths = torch.full((1, 1), text_length, device=device)
        else:
            lengths = text_mask.sum(dim=1, keepdim=True)
        first = ids[..., 0] + lengths * is_image
        ids = torch.stack([first, ids[..., 1].expand_as(first), ids[..., 2].expand_as(first)], dim=-1)
        return _rotations(ids, text_length + offset, self.config.axes_dim_rope)

    def _run(
        self, blocks: nn.ModuleList, hidden_states: Tensor, mask: Tensor | None, rotations: Tensor, *temb: Tensor
    ) -> Tensor:
        for block in blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                hidden_states = checkpoint(block, hidden_states, mask, rotations, *temb, use_reentrant=False)
            else:
                hidden_states = block(hidden_states, mask, rotations, *temb)
        return hidden_states


def _attention_masks(text_mask: Tensor | None, sequence_length: int) -> tuple[Tensor | None, Tensor | None]:
    """Key masks (B, 1, 1, S_text) of the text alone and (B, 1, 1, sequence_length) of the joint sequence."""
    if text_mask is None:
        return None, None
    text_mask = text_mask.bool()
    joint_mask = F.pad(text_mask, (0, sequence_length - text_mask.shape[1]), value=True)
    # An empty prompt would leave the context refiner's softmax without a key: NaN in a row that is not used.
    empty = ~text_mask.any(dim=1, keepdim=True)
    return (text_mask | empty)[:, None, None], joint_mask[:, None, None]
