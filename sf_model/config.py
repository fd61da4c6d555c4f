"""Configurations of all sizes of the method, as frozen dataclasses without defaults.

The widths of the spatial transformer are free. Its head count, key/value head count and head_dim are those of the
multimodal language model (MLLM) whose keys and values it reads.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

Injection = Literal["latent", "token"]


# The version of `SpatialFusionConfig.to_dict`. `migrated` shows what each version added.
CONFIG_VERSION = 2


@dataclass(frozen=True)
class MLLMConfig:
    """Sizes of the MLLM, as far as the spatial transformer needs them."""

    num_layers: int
    num_attention_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float
    # On: queries and keys are normalised, as in the Qwen3 family.
    qk_norm: bool


@dataclass(frozen=True)
class SpatialTransformerConfig:
    """Sizes of the spatial transformer."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    rms_norm_eps: float
    # Side of the grid of learnable queries.
    query_grid: int
    # Image pixels along a query's side.
    stride: int
    # Channels of the source image's features (DINOv2's hidden size). None: no editing.
    source_feature_dim: int | None
    # On: every query also starts from the source's features at its position.
    source_at_queries: bool
    # On: queries stand behind an image as text does, and RoPE's axes turn the channels that they turn in the MLLM.
    # Off: they stand at the number of tokens, and the axes take turns.
    mllm_positions: bool


@dataclass(frozen=True)
class DepthHeadConfig:
    """Sizes of the DPT head."""

    # Channels of the four reassembled maps, finest first.
    reassemble_channels: tuple[int, int, int, int]
    # Channels of the fused map.
    fusion_channels: int
    # On: the last state of every query also gives the pixels of its patch.
    patch_output: bool


@dataclass(frozen=True)
class DepthAdapterConfig:
    """Sizes of the depth adapter."""

    injection: Injection
    # Image pixels along the side of a cell of the features.
    downscale: int
    hidden_channels: int
    num_blocks: int
    # Injection "latent": the latent's channels. Injection "token": the diffusion transformer's hidden size.
    out_channels: int


@dataclass(frozen=True)
class DepthFlowConfig:
    """Sizes of the noisy depth's input (`models.depth_flow`)."""

    # Channels of the time's sinusoids.
    time_channels: int
    # Channels of the noisy depth's path past the queries (`models.depth_detail`). None: no such path.
    detail_channels: int | None
    # On: a sample begins with the mean of all scenes, and has the mean's confidence.
    mean_first: bool


@dataclass(frozen=True)
class SpatialFusionConfig:
    """One complete system for one base model. Raises ValueError for sizes that do not fit together."""

    name: str
    # A key of `backbones.BACKBONES`.
    backbone: str
    mllm: MLLMConfig
    spatial_transformer: SpatialTransformerConfig
    depth_head: DepthHeadConfig
    depth_adapter: DepthAdapterConfig
    depth_flow: DepthFlowConfig | None

    def __post_init__(self) -> None:
        if self.spatial_transformer.num_layers > self.mllm.num_layers:
            raise ValueError(
                f"lower spatial_transformer.num_layers: it is {self.spatial_transformer.num_layers}, more than the "
                f"{self.mllm.num_layers} of the MLLM that it reads"
            )
        if self.spatial_transformer.source_at_queries and self.spatial_transformer.source_feature_dim is None:
            raise ValueError("set source_feature_dim, or source_at_queries to false: there is no source to read")
        if self.mllm.num_kv_heads < 1 or self.mllm.num_attention_heads % self.mllm.num_kv_heads:
            raise ValueError("num_attention_heads must be a multiple of num_kv_heads, which must be above 0")

    def to_dict(self) -> dict[str, Any]:
        """The fields and the version, as JSON can store them."""
        return {"version": CONFIG_VERSION, **dataclasses.asdict(self)}

    @staticmethod
    def from_dict(values: Any) -> SpatialFusionConfig:
        """The inverse of `to_dict`, also for older versions. ValueError, with the field's path, for anything else."""
        return dataclass_from_dict(SpatialFusionConfig, migrated(values), "config")


def migrated(values: Any) -> Any:
    """The fields of a configuration of any version, in the form of CONFIG_VERSION and without the version.

    Files of version 1 have no version, and the later ones more fields: a missing field is off. ValueError for a newer
    version.
    """
    if not isinstance(values, dict):
        return values
    values = dict(values)
    version = values.pop("version", 1)
    if not isinstance(version, int) or not 1 <= version <= CONFIG_VERSION:
        raise ValueError(
            f"update the pack: config.version is {version!r}, and this version reads up to {CONFIG_VERSION}"
        )
    if version == 1:
        values.setdefault("depth_flow", None)
        added = {
            "depth_flow": {"detail_channels": None, "mean_first": False},
            "depth_head": {"patch_output": False},
            "spatial_transformer": {"source_at_queries": False, "mllm_positions": False},
        }
        for name, fields in added.items():
            if isinstance(values.get(name), dict):
                values[name] = {**fields, **values[name]}
    return values


def dataclass_from_dict(cls: type, values: Any, path: str) -> Any:
    """A (nested) dataclass from plain values. ValueError for missing, unknown and mistyped fields.

    path: the name of `values` in errors.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{path} must be an object, got {type(values).__name__}")
    names = {field.name for field in dataclasses.fields(cls)}
    if names != set(values):
        missing, unknown = sorted(names - set(values)), sorted(set(values) - names)
        raise ValueError(f"{path}: missing fields {missing}, unknown fields {unknown}")
    hints = typing.get_type_hints(cls)
    return cls(**{name: _convert(hints[name], value, f"{path}.{name}") for name, value in values.items()})


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return dataclass_from_dict(typing.cast(type, hint), value, path)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{path} must be one of {list(arguments)}, got {value!r}")
        return value
    if origin is tuple and arguments[-1] is Ellipsis:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{path} must be a list, got {value!r}")
        return tuple(_convert(arguments[0], item, path) for item in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{path} must be an object, got {value!r}")
        return {_convert(arguments[0], key, path): _convert(arguments[1], item, path) for key, item in value.items()}
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or len(value) != len(arguments):
            raise ValueError(f"{path} must be a list of {len(arguments)} numbers, got {value!r}")
        return tuple(_convert(hint, item, path) for hint, item in zip(arguments, value))
    if origin is types.UnionType:
        if value is None:
            return None
        return _convert(arguments[0], value, path)
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{path} must be {hint.__name__}, got {value!r}")
    return value


QWEN25_VL_3B = MLLMConfig(36, num_attention_heads=16, num_kv_heads=2, head_dim=128, rope_theta=1e6, qk_norm=False)
QWEN25_VL_7B = MLLMConfig(28, num_attention_heads=28, num_kv_heads=4, head_dim=128, rope_theta=1e6, qk_norm=False)
QWEN3_4B = MLLMConfig(36, num_attention_heads=32, num_kv_heads=8, head_dim=128, rope_theta=1e6, qk_norm=True)
MINI_MLLM = MLLMConfig(6, num_attention_heads=4, num_kv_heads=2, head_dim=64, rope_theta=1e6, qk_norm=False)
DUMMY_MLLM = MLLMConfig(4, num_attention_heads=2, num_kv_heads=1, head_dim=16, rope_theta=1e6, qk_norm=False)

DINOV2_LARGE_DIM = 1024

DUMMY = SpatialFusionConfig(
    name="dummy",
    backbone="mini",
    mllm=DUMMY_MLLM,
    spatial_transformer=SpatialTransformerConfig(
        24,
        48,
        3,
        1e-6,
        query_grid=4,
        stride=8,
        source_feature_dim=12,
        source_at_queries=True,
        mllm_positions=True,
    ),
    depth_head=DepthHeadConfig((8, 8, 12, 12), 8, patch_output=True),
    depth_adapter=DepthAdapterConfig("token", downscale=8, hidden_channels=16, num_blocks=1, out_channels=32),
    depth_flow=DepthFlowConfig(time_channels=256, detail_channels=8, mean_first=True),
)

MINI = SpatialFusionConfig(
    name="mini",
    backbone="mini",
    mllm=MINI_MLLM,
    spatial_transformer=SpatialTransformerConfig(
        256,
        640,
        4,
        1e-6,
        query_grid=8,
        stride=8,
        source_feature_dim=None,
        source_at_queries=False,
        mllm_positions=True,
    ),
    depth_head=DepthHeadConfig((16, 24, 32, 32), 24, patch_output=True),
    depth_adapter=DepthAdapterConfig("token", downscale=8, hidden_channels=96, num_blocks=2, out_channels=192),
    depth_flow=DepthFlowConfig(time_channels=256, detail_channels=16, mean_first=True),
)

OMNIGEN2 = SpatialFusionConfig(
    name="omnigen2",
    backbone="omnigen2",
    mllm=QWEN25_VL_3B,
    spatial_transformer=SpatialTransformerConfig(
        1024,
        4096,
        10,
        1e-6,
        query_grid=32,
        stride=32,
        source_feature_dim=DINOV2_LARGE_DIM,
        source_at_queries=True,
        mllm_positions=True,
    ),
    depth_head=DepthHeadConfig((256, 512, 1024, 1024), 256, patch_output=True),
    depth_adapter=DepthAdapterConfig("latent", downscale=8, hidden_channels=256, num_blocks=4, out_channels=16),
    depth_flow=DepthFlowConfig(time_channels=256, detail_channels=32, mean_first=True),
)

# The published width: layers have the sizes of the MLLM's, so that they can start from their weights.
OMNIGEN2_FULL = dataclasses.replace(
    OMNIGEN2,
    name="omnigen2_full",
    spatial_transformer=dataclasses.replace(OMNIGEN2.spatial_transformer, hidden_size=2048, intermediate_size=11008),
)

QWEN_IMAGE = dataclasses.replace(
    OMNIGEN2,
    name="qwen_image",
    backbone="qwen_image",
    mllm=QWEN25_VL_7B,
    spatial_transformer=dataclasses.replace(OMNIGEN2.spatial_transformer, hidden_size=1536, intermediate_size=6144),
)

# A separate base, because the first Qwen-Image-Edit shows source images to its MLLM in another way than later ones.
QWEN_IMAGE_EDIT = dataclasses.replace(QWEN_IMAGE, name="qwen_image_edit", backbone="qwen_image_edit")

Z_IMAGE = dataclasses.replace(OMNIGEN2, name="z_image", backbone="z_image", mllm=QWEN3_4B)

CONFIGS: dict[str, SpatialFusionConfig] = {
    config.name: config for config in (DUMMY, MINI, OMNIGEN2, OMNIGEN2_FULL, QWEN_IMAGE, QWEN_IMAGE_EDIT, Z_IMAGE)
}
