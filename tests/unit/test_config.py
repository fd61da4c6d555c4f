import dataclasses
import json

import pytest
import torch

from sf_model.config import CONFIGS, DUMMY, OMNIGEN2, OMNIGEN2_FULL, QWEN_IMAGE, Z_IMAGE, SpatialFusionConfig
from sf_model.models.depth_adapter import DepthAdapter
from sf_model.models.depth_predictor import DepthPredictor
from sf_model.models.expert_inputs import ExpertInputs

# Parameters of the bases: Qwen2.5-3B's decoder with tied embeddings and OmniGen2's transformer (pinned against the
# host's class in tests/parity), Qwen2.5-7B's decoder and the 20.4B Qwen-Image transformer, Qwen3-4B's decoder and
# Z-Image's transformer.
OMNIGEN2_BASE = 3_085_938_688 + 3_967_161_400
QWEN_IMAGE_BASE = 7_615_616_512 + 20_430_401_088
Z_IMAGE_BASE = 4_022_468_096 + 6_154_908_736

PARAMETERS = {
    "dummy": 60_372,
    "mini": 3_514_112,
    "omnigen2": 212_441_716,
    "omnigen2_full": 822_031_988,
    "qwen_image": 453_818_484,
    "qwen_image_edit": 453_818_484,
    "z_image": 270_090_356,
}


def added_parameters(config: SpatialFusionConfig) -> int:
    modules = (DepthPredictor(config, device="meta"), DepthAdapter(config.depth_adapter, device="meta"))
    assert all(value.is_meta for module in modules for value in module.parameters())
    return sum(value.numel() for module in modules for value in module.parameters())


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_size_builds_on_meta_with_its_pinned_parameters(name: str) -> None:
    assert added_parameters(CONFIGS[name]) == PARAMETERS[name]


def test_added_parameters_stay_within_the_published_share() -> None:
    assert added_parameters(OMNIGEN2_FULL) / OMNIGEN2_BASE <= 0.185
    assert added_parameters(OMNIGEN2) / OMNIGEN2_BASE <= 0.08
    assert added_parameters(QWEN_IMAGE) / QWEN_IMAGE_BASE <= 0.08
    assert added_parameters(Z_IMAGE) / Z_IMAGE_BASE <= 0.08


@pytest.mark.parametrize("config", CONFIGS.values(), ids=lambda config: config.name)
def test_json_round_trip(config: SpatialFusionConfig) -> None:
    assert SpatialFusionConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("depth_adapter", "injection"), "middle", "config.depth_adapter.injection must be one of"),
        (("mllm", "num_layers"), "36", "config.mllm.num_layers must be int"),
        (("mllm", "qk_norm"), None, "config.mllm.qk_norm must be bool"),
        (("depth_head", "reassemble_channels"), [1, 2], "config.depth_head.reassemble_channels must be a list of 4"),
        (("spatial_transformer",), 3, "config.spatial_transformer must be an object"),
    ],
)
def test_a_mistyped_field_is_named(path: tuple[str, ...], value: object, message: str) -> None:
    values = DUMMY.to_dict()
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        SpatialFusionConfig.from_dict(values)


def test_unknown_and_missing_fields_are_named() -> None:
    values = DUMMY.to_dict()
    values["mllm"]["layers"] = values["mllm"].pop("num_layers")
    with pytest.raises(ValueError, match=r"config.mllm: missing fields \['num_layers'\], unknown fields \['layers'\]"):
        SpatialFusionConfig.from_dict(values)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="more than the 4 of the MLLM"):
        dataclasses.replace(DUMMY, spatial_transformer=dataclasses.replace(DUMMY.spatial_transformer, num_layers=5))
    with pytest.raises(ValueError, match="multiple of num_kv_heads"):
        dataclasses.replace(DUMMY, mllm=dataclasses.replace(DUMMY.mllm, num_attention_heads=3, num_kv_heads=2))


def test_modules_build_in_any_dtype() -> None:
    predictor = DepthPredictor(DUMMY, dtype=torch.bfloat16)
    assert {value.dtype for value in predictor.parameters()} == {torch.bfloat16}


def test_a_configuration_of_version_1_means_what_it_meant() -> None:
    """It has no version. What was added since is off: a checkpoint gives what it gave."""
    values = json.loads(json.dumps(QWEN_IMAGE.to_dict()))
    del values["version"]
    for group, field in (
        ("depth_flow", "detail_channels"),
        ("depth_flow", "mean_first"),
        ("depth_head", "patch_output"),
        ("spatial_transformer", "source_at_queries"),
        ("spatial_transformer", "mllm_positions"),
    ):
        del values[group][field]
    config = SpatialFusionConfig.from_dict(values)
    assert (config.depth_flow.detail_channels, config.depth_flow.mean_first) == (None, False)
    assert not config.depth_head.patch_output
    sizes = config.spatial_transformer
    assert (sizes.source_at_queries, sizes.mllm_positions) == (False, False)


@torch.no_grad()
def test_queries_stand_where_the_checkpoint_learned_them() -> None:
    """Behind an image as the MLLM counts, or at the number of tokens, and with axes that take turns."""
    pair = torch.randn(1, DUMMY.mllm.num_kv_heads, 9, DUMMY.mllm.head_dim)
    told = ExpertInputs([(pair, pair)] * DUMMY.mllm.num_layers, 32, 32, next_position=torch.tensor([5]))
    for mllm_positions in (True, False):
        sizes = dataclasses.replace(DUMMY.spatial_transformer, mllm_positions=mllm_positions)
        predictor = DepthPredictor(dataclasses.replace(DUMMY, spatial_transformer=sizes)).eval()
        for parameter in predictor.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        untold = dataclasses.replace(told, next_position=None)
        same = torch.equal(predictor(told).log_depth, predictor(untold).log_depth)
        assert same == (not mllm_positions)
    qwen = dataclasses.replace(QWEN_IMAGE.spatial_transformer, mllm_positions=False)
    old = DepthPredictor(dataclasses.replace(QWEN_IMAGE, spatial_transformer=qwen), device="meta")
    assert old.spatial_transformer.rope_sections is None
    assert DepthPredictor(QWEN_IMAGE, device="meta").spatial_transformer.rope_sections == (16, 24, 24)
