"""Sizes of a base that is trained from scratch: SpatialFusion-Mini, and a dummy for tests."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...config import DUMMY, LayoutConfig, SpatialFusionConfig
from ...models.autoencoder import DOWNSCALE, AutoencoderConfig
from ...models.pixel_encoder import source_patch_dim
from ...world import CATEGORY_NAMES, COLORS


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a Qwen2.5 decoder; `head_dim * num_attention_heads` may differ from `hidden_size`."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_attention_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float = 1e6
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 32768
    tie_word_embeddings: bool = True
    # The diffusion transformer reads the output of this layer (0 is the first). None: of the last one, after the norm.
    text_layer: int | None = None

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_kv_heads:
            raise ValueError(f"{self.num_kv_heads} KV heads do not divide {self.num_attention_heads} heads")
        if self.text_layer is not None and not 0 <= self.text_layer < self.num_layers - 1:
            raise ValueError(f"text_layer {self.text_layer} is not one of the first {self.num_layers - 1} layers")


@dataclass(frozen=True)
class OmniGen2Config:
    """Sizes of an OmniGen2 transformer, by the host's argument names. The defaults are the official model's."""

    patch_size: int = 2
    in_channels: int = 16
    hidden_size: int = 2520
    num_layers: int = 32
    num_refiner_layers: int = 2
    num_attention_heads: int = 21
    num_kv_heads: int = 7
    multiple_of: int = 256
    norm_eps: float = 1e-5
    # Rotated channels of the axes (index, row, column); they sum to the head width.
    axes_dim_rope: tuple[int, int, int] = (40, 40, 40)
    # Only for the file's metadata: positions are not limited here.
    axes_lens: tuple[int, int, int] = (1024, 1664, 1664)
    text_feat_dim: int = 2048
    timestep_scale: float = 1000.0

    def __post_init__(self) -> None:
        head_dim, rest = divmod(self.hidden_size, self.num_attention_heads)
        if rest or head_dim != sum(self.axes_dim_rope):
            raise ValueError(
                f"hidden_size {self.hidden_size} / {self.num_attention_heads} heads must equal the sum of "
                f"axes_dim_rope {self.axes_dim_rope}"
            )
        if self.num_attention_heads % self.num_kv_heads:
            raise ValueError(f"{self.num_kv_heads} KV heads do not divide {self.num_attention_heads} heads")


@dataclass(frozen=True)
class MiniSizes:
    """All sizes of a small base and of the SpatialFusion networks beside it."""

    # Pixels of a side of the images that it generates.
    image_size: int
    # Number of captions that the vocabulary is trained on. 0: the vocabulary comes with the weights.
    tokenizer_captions: int
    # None: the latents are the pixels.
    autoencoder: AutoencoderConfig | None
    decoder: DecoderConfig
    transformer: OmniGen2Config
    spatialfusion: SpatialFusionConfig

    @property
    def patch_px(self) -> int:
        """Image pixels along the side of a patch of the diffusion transformer."""
        return self.transformer.patch_size * (1 if self.autoencoder is None else DOWNSCALE)


# Side of the patches of source images.
SOURCE_PATCH_PX = 8


def smoke_sizes() -> MiniSizes:
    """A complete system of a few thousand weights, for tests."""
    mllm = DUMMY.mllm
    decoder = DecoderConfig(
        vocab_size=640,
        hidden_size=32,
        intermediate_size=64,
        num_layers=mllm.num_layers,
        num_attention_heads=mllm.num_attention_heads,
        num_kv_heads=mllm.num_kv_heads,
        head_dim=mllm.head_dim,
    )
    transformer = OmniGen2Config(
        patch_size=2,
        in_channels=4,
        hidden_size=32,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 6, 6),
        axes_lens=(256, 64, 64),
        text_feat_dim=32,
    )
    autoencoder = AutoencoderConfig(4, 1.0, encoder_channels=(8, 16), decoder_channels=(8, 16), image_channels=8)
    spatial = replace(DUMMY.spatial_transformer, source_feature_dim=source_patch_dim(SOURCE_PATCH_PX))
    layout = LayoutConfig(24, 48, 2, 1e-6, objects=4, categories=tuple(CATEGORY_NAMES), colors=tuple(COLORS))
    adapter = replace(DUMMY.depth_adapter, downscale=transformer.patch_size * DOWNSCALE)
    spatialfusion = replace(DUMMY, spatial_transformer=spatial, layout=layout, depth_adapter=adapter)
    return MiniSizes(32, 300, autoencoder, decoder, transformer, spatialfusion)
