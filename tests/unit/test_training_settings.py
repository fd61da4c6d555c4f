"""Config files: every version of them, and errors that name the field."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sf_model.training.bases.loading import spatial_config
from sf_model.training.controls import plain_settings
from sf_model.training.reader import load_reader_settings
from sf_model.training.settings import (
    CUDA_SAMPLES,
    STAGE_NAMES,
    TrainingSettings,
    load_settings,
    on_cuda,
    settings_from_dict,
    smoke,
)
from tests.unit.mini_training import MINI_CONFIG, mini_settings

CONFIGS = MINI_CONFIG.parent
VERSION_1 = Path(__file__).parent / "old_configs" / "omnigen2_version_1.yaml"


def values_of(path: Path) -> dict[str, Any]:
    """Every group by itself: YAML's anchors make one object of several."""
    return json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))


def put(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`value` at a.b.c of the nested values, which are changed."""
    *groups, name = path.split(".")
    place = values
    for group in groups:
        place = place[group]
    place[name] = value
    return values


@pytest.mark.parametrize("name", ["mini", "omnigen2", "qwen_image"])
def test_the_configs_that_come_with_the_pack_are_read(name: str) -> None:
    settings = load_settings(CONFIGS / f"{name}.yaml")
    assert settings.base == name
    assert settings.stages == (list(STAGE_NAMES) if name == "mini" else ["stage1", "stage2"])
    # As `controls` writes them.
    assert settings_from_dict(yaml.safe_load(yaml.safe_dump(plain_settings(settings)))) == settings
    if name == "mini":
        return
    for stage in (settings.stage1, settings.stage2):
        assert stage.loop.batch_size % (8 * stage.loop.micro_batch) == 0
    # Without DINOv2 the checkpoint has nothing that would ask users for it.
    without = spatial_config(settings).spatial_transformer
    assert without.source_feature_dim is None and not without.source_at_queries
    editing = replace(settings, weights=replace(settings.weights, vision="dinov2"))
    with_source = spatial_config(editing).spatial_transformer
    assert with_source.source_feature_dim == 1024 and with_source.source_at_queries


def test_a_file_of_version_1_means_what_it_meant() -> None:
    """Its flat stages are grouped; what it did not know is off. Its cosine is a linear decay over all steps."""
    settings, flat = load_settings(VERSION_1), values_of(VERSION_1)
    assert (settings.base, settings.stages) == ("omnigen2", ["stage1", "stage2"])
    assert (settings.starts, settings.system) == ({}, None)
    for group in ("weights", "spatial", "label", "data"):
        assert asdict(getattr(settings, group)) == flat[group]
    for name in ("stage1", "stage2"):
        stage, old = settings.stage(name), flat[name]
        loop = asdict(stage.loop)
        assert {key: value for key, value in loop.items() if key in old} == {k: old[k] for k in loop if k in old}
        assert (stage.loop.decay_steps, stage.loop.compile, stage.world) == (old["steps"], False, None)
        depth = stage.depth
        assert (depth.flow, depth.time_mean, depth.time_std, depth.prompt_dropout, depth.draws) == (
            *(old[key] for key in ("depth_flow", "depth_time_mean", "depth_time_std", "caption_dropout")),
            1,
        )
    assert settings.stage1.diffusion is None and settings.stage1.fusion is None
    old, second = flat["stage2"], settings.stage2
    kept = ("time_mean", "time_std", "caption_dropout", "depth_dropout")
    assert asdict(second.diffusion) == {**{key: old[key] for key in kept}, "joint_dropout": 0.0, "draws": 1}
    assert asdict(second.fusion) == {
        **{key: old[key] for key in ("depth_weight", "lora_rank", "lora_alpha")},
        "true_depth": 0.0,
        "freeze_predictor": False,
    }
    assert settings_from_dict({**flat, "version": 1}) == settings


def test_a_file_of_version_1_is_read_as_strictly_as_before() -> None:
    flat = values_of(VERSION_1)
    with pytest.raises(ValueError, match=r"config.stage2: missing fields \[\], unknown fields \['lora_rang'\]"):
        settings_from_dict(put(values_of(VERSION_1), "stage2.lora_rang", 4))
    del flat["stage1"]["lora_rank"]
    with pytest.raises(ValueError, match=r"config.stage1: missing fields \['lora_rank'\]"):
        settings_from_dict(flat)


@pytest.mark.parametrize("version", [4, 0, "2", 1.5])
def test_a_version_from_the_future_is_refused(version: object) -> None:
    with pytest.raises(ValueError, match=rf"config.version is {version!r}, this code reads up to 3; update it"):
        settings_from_dict({**values_of(MINI_CONFIG), "version": version})


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("surprise", r"config: missing fields \[\], unknown fields \['surprise'\]"),
        ("stage1.surprise", r"config.stage1: missing fields \[\], unknown fields \['surprise'\]"),
        ("stage1.loop.surprise", r"config.stage1.loop: missing fields \[\], unknown fields \['surprise'\]"),
        ("system.spatialfusion.mllm.surprise", r"config.system.spatialfusion.mllm: .* unknown fields \['surprise'\]"),
        ("image.world.captions.surprise", r"config.image.world.captions: .* unknown fields \['surprise'\]"),
    ],
)
def test_an_unknown_field_is_refused_with_its_path(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings_from_dict(put(values_of(MINI_CONFIG), path, 1))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("    steps: 30000\n", r"c.yaml: config.stage1.loop: missing fields \['steps'\]"),
        ("base: omnigen2\n", r"c.yaml: config: missing fields \['base'\]"),
        ("    learning_rate: 0.000200\n", r"config.stage1.loop: missing fields \['learning_rate'\]"),
    ],
)
def test_a_missing_field_is_named_with_the_file(line: str, message: str, tmp_path: Path) -> None:
    text = (CONFIGS / "omnigen2.yaml").read_text(encoding="utf-8")
    assert line in text
    (tmp_path / "c.yaml").write_text(text.replace(line, "", 1), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_settings(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("stage1.loop.steps", 0, "stage1.loop.steps must be at least 1"),
        ("stage1.loop.micro_batch", 5, "stage1.loop.micro_batch 5 does not divide batch_size 16"),
        ("stage1.depth.flow", 1.5, r"stage1.depth.flow 1.5 is a share of the samples: from 0 to 1"),
        ("stage2.diffusion.joint_dropout", -0.1, "stage2.diffusion.joint_dropout -0.1 is a share"),
        ("stage1.depth", None, "stage1.depth is missing"),
        ("image.world", None, "image.world is missing"),
        ("image.depth", values_of(MINI_CONFIG)["stage1"]["depth"], "image.depth must be null"),
        ("language.documents", None, "language.documents is missing"),
        ("language.loop.micro_batch", 32, r"set language.loop.micro_batch to its batch_size \(64\)"),
        ("language.documents.answers", 2.0, "language.documents.answers 2.0 is a share"),
        ("system", None, "config.system is missing for the base 'mini'"),
        ("starts", {"joint": "runs"}, r"config.starts names stages that do not exist: \['joint'\]"),
        ("language.world.scenes", 100, "set language.world.edits to 0: a fixed training set has no edits"),
        ("language.world.scenes", -1, "language.world.scenes must not be negative"),
        ("image.world.image_sizes", [], r"image.world.image_sizes \[\] must be multiples of 16"),
        ("image.world.image_sizes", [64, 100], r"image.world.image_sizes \[64, 100\] must be multiples of 16"),
        ("image.world.image_sizes", [0], r"image.world.image_sizes \[0\] must be multiples of 16"),
        ("image.world.image_sizes", [-64], r"image.world.image_sizes \[-64\] must be multiples of 16"),
        ("image.world.image_sizes", "big", "config.image.world.image_sizes must be a list"),
        ("image.world.validation_samples", 0, "image.world.validation_samples must be at least 1"),
        ("system.tokenizer_captions", 0, "config.system.tokenizer_captions must be at least 1"),
        ("source", None, "language.world.edits must be 0 without the stage 'source', which learns to see sources"),
        ("base", "omnigen2", "config.weights is missing for the base 'omnigen2'"),
    ],
)
def test_what_does_not_fit_together_is_said(path: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings_from_dict(put(values_of(MINI_CONFIG), path, value))


def test_a_predictor_that_learns_in_both_stages_learns_the_flow_in_both() -> None:
    values = put(values_of(MINI_CONFIG), "stage2.depth.flow", 0.0)
    settings_from_dict(put(values, "stage2.fusion.freeze_predictor", True))
    with pytest.raises(ValueError, match="stage2.depth.flow must be above 0, or stage2.fusion.freeze_predictor true"):
        settings_from_dict(put(values, "stage2.fusion.freeze_predictor", False))


def test_a_released_base_needs_its_files_and_no_world() -> None:
    path = CONFIGS / "omnigen2.yaml"
    world = values_of(MINI_CONFIG)["image"]["world"]
    for place, value, message in (
        ("weights", None, "config.weights is missing for the base 'omnigen2'"),
        ("system", values_of(MINI_CONFIG)["system"], "config.system must be null for the base 'omnigen2'"),
        ("data", None, "config.data must be null for the base 'mini', which learns from the synthetic world"),
        ("data.validation_samples", 0, "config.data.validation_samples must be at least 1"),
        ("stage1.world", world, "stage1.world must be null where config.data is given"),
        ("stage1.fusion", values_of(path)["stage2"]["fusion"], "stage1.fusion must be null"),
    ):
        with pytest.raises(ValueError, match=message):
            settings_from_dict(put(values_of(path), place, value))


def test_files_that_are_no_configs(tmp_path: Path) -> None:
    for text, message in (
        ("a: [", "not YAML"),
        ("- 1", "config must be an object, got list"),
        ("", "must be an object"),
    ):
        (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=f"c.yaml: .*{message}"):
            load_settings(tmp_path / "c.yaml")


def test_a_smoke_run_has_every_stage_and_is_tiny() -> None:
    settings = smoke(mini_settings())
    assert settings.stages == list(STAGE_NAMES)
    for name in STAGE_NAMES:
        stage, whole = settings.stage(name), mini_settings().stage(name)
        assert (stage.loop.steps, stage.loop.batch_size, stage.world.image_sizes) == (2, 2, (32,))
        # What a stage learns is that of the whole run.
        assert (stage.depth, stage.diffusion, stage.fusion) == (whole.depth, whole.diffusion, whole.fusion)
        assert stage.documents == whole.documents
    assert settings.system.tokenizer_captions <= 500
    # It can be written, and read again.
    again: TrainingSettings = settings_from_dict(yaml.safe_load(yaml.safe_dump(plain_settings(settings))))
    assert again == settings


def test_a_gpu_s_training_has_the_same_stages_with_larger_steps() -> None:
    settings, larger = mini_settings(), on_cuda(mini_settings())
    for name in STAGE_NAMES:
        loop, other = settings.stage(name).loop, larger.stage(name).loop
        assert other.batch_size == other.micro_batch == CUDA_SAMPLES * loop.batch_size
        assert (other.steps, other.learning_rate) == (loop.steps, loop.learning_rate)
        assert other.compile and other.mixed_precision == "bf16" and larger.stage(name).world.render_on == "device"
    # The sizes of what is trained are the same, so that its files are.
    assert larger.system == settings.system
    assert settings_from_dict(yaml.safe_load(yaml.safe_dump(plain_settings(larger)))) == larger
    with pytest.raises(ValueError, match="--cuda is for a base that is trained from scratch"):
        on_cuda(load_settings(CONFIGS / "omnigen2.yaml"))


def test_the_reader_s_config_is_read_and_its_steps_are_not_split(tmp_path: Path) -> None:
    settings = load_reader_settings(CONFIGS / "scene_reader.yaml")
    assert settings.loop.micro_batch == settings.loop.batch_size
    values = values_of(CONFIGS / "scene_reader.yaml")
    for path, value, message in (
        ("loop.micro_batch", 32, r"set loop.micro_batch to loop.batch_size \(64\)"),
        ("version", 2, "config.version is 2, this code reads 3"),
        ("loop.surprise", 1, r"config.loop: missing fields \[\], unknown fields \['surprise'\]"),
    ):
        (tmp_path / "r.yaml").write_text(yaml.safe_dump(put({**values, "loop": dict(values["loop"])}, path, value)))
        with pytest.raises(ValueError, match=message):
            load_reader_settings(tmp_path / "r.yaml")
