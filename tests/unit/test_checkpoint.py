import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sf_model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from sf_model.config import DUMMY
from sf_model.models.depth_adapter import DepthAdapter
from sf_model.models.depth_predictor import DepthPredictor


@pytest.fixture
def modules() -> tuple[DepthPredictor, DepthAdapter]:
    return DepthPredictor(DUMMY), DepthAdapter(DUMMY.depth_adapter)


@pytest.fixture
def file(tmp_path: Path, modules: tuple[DepthPredictor, DepthAdapter]) -> Path:
    path = tmp_path / "dummy.safetensors"
    predictor, adapter = modules
    save_checkpoint(
        path, DUMMY, predictor.state_dict(), adapter.state_dict(), "base-1", {"steps": 3}, dtype=torch.float32
    )
    return path


def test_round_trip(file: Path, modules: tuple[DepthPredictor, DepthAdapter]) -> None:
    checkpoint = load_checkpoint(file)
    assert (checkpoint.config, checkpoint.base_revision, checkpoint.training) == (DUMMY, "base-1", {"steps": 3})
    for module, state in zip(modules, (checkpoint.predictor_state(), checkpoint.adapter_state())):
        assert state.keys() == module.state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())


def test_folders_of_who_trained_it_are_not_told(tmp_path: Path, modules: tuple[DepthPredictor, DepthAdapter]) -> None:
    training = {
        "base": {"model": "/home/ann/models/omnigen2.safetensors", "cache": "C:\\Users\\ann\\cache"},
        "sources": [{"/data/ann/photos": 3}, "photos/ann"],
        "steps": 3,
    }
    path = tmp_path / "dummy.safetensors"
    predictor, adapter = (module.state_dict() for module in modules)
    save_checkpoint(path, DUMMY, predictor, adapter, "base-1", training, dtype=torch.float32)
    assert load_checkpoint(path).training == {
        "base": {"model": "omnigen2.safetensors", "cache": "cache"},
        "sources": [{"photos": 3}, "photos/ann"],
        "steps": 3,
    }


def test_tensors_live_under_their_prefixes(file: Path) -> None:
    prefixes = {name.split(".")[0] for name in load_checkpoint(file).state_dict}
    assert prefixes == {"spatial_transformer", "depth_head", "depth_adapter", "source_encoder", "depth_flow"}


def rewrite(file: Path, metadata: dict[str, str] | None = None, drop: str = "", reshape: str = "") -> None:
    with safetensors.safe_open(file, framework="pt") as opened:
        old = opened.metadata()
    tensors = {name: value for name, value in safetensors.torch.load_file(file).items() if name != drop}
    if reshape:
        tensors[reshape] = torch.zeros(1)
    safetensors.torch.save_file(tensors, file, old if metadata is None else metadata)


def test_a_missing_file_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent.safetensors: .*models/spatialfusion; there is no such file"):
        load_checkpoint(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, 5000])
def test_a_truncated_file(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(
        CheckpointError, match=r"dummy.safetensors: download or export it again.*not a complete safetensors file"
    ):
        load_checkpoint(file)


def test_a_foreign_file(file: Path) -> None:
    rewrite(file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="not a SpatialFusion checkpoint"):
        load_checkpoint(file)


def test_a_format_of_the_future(file: Path) -> None:
    rewrite(file, metadata={"spatialfusion_format": "99"})
    with pytest.raises(CheckpointError, match="update the pack, because it has format 99 and this version reads 1"):
        load_checkpoint(file)


@pytest.mark.parametrize("config", ["{", json.dumps({"name": "x"})])
def test_unreadable_metadata(file: Path, config: str) -> None:
    rewrite(file, metadata={"spatialfusion_format": "1", "config": config, "base_revision": "", "training": "{}"})
    with pytest.raises(CheckpointError, match="its metadata cannot be read"):
        load_checkpoint(file)


def test_missing_and_misshapen_tensors_are_named(file: Path) -> None:
    rewrite(file, drop="depth_head.fov.bias", reshape="depth_adapter.out.bias")
    with pytest.raises(
        CheckpointError, match=r"2 tensors differ.*depth_adapter.out.bias \(expected \(32,\), found \(1,\)\)"
    ):
        load_checkpoint(file)


def test_nothing_wrong_is_ever_written(tmp_path: Path, modules: tuple[DepthPredictor, DepthAdapter]) -> None:
    predictor, adapter = modules
    path = tmp_path / "wrong.safetensors"
    with pytest.raises(CheckpointError, match="tensors differ"):
        save_checkpoint(path, DUMMY, {}, adapter.state_dict(), "base-1", {}, dtype=torch.float32)
    assert not path.exists()
