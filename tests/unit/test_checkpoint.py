import json
import math
import random
from pathlib import Path
from typing import Any

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


def changed_config(path: tuple[str, ...], value: object) -> dict[str, str]:
    """The metadata of DUMMY's checkpoint with one other value in its config."""
    config: dict[str, Any] = DUMMY.to_dict()
    inner = config
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return metadata(config=json.dumps(config))


def metadata(**changes: str) -> dict[str, str]:
    config = json.dumps(DUMMY.to_dict())
    return {"spatialfusion_format": "1", "config": config, "base_revision": "", "training": "{}"} | changes


DEEP = "[" * 100_000 + "]" * 100_000
TRANSFORMER = "spatial_transformer"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (metadata(config=DEEP), "config is nested too deeply"),
        (metadata(training=DEEP), "training is nested too deeply"),
        (metadata(training='{"x": ' + DEEP + "}"), "training is nested too deeply"),
        (metadata(base_fingerprint=DEEP), "base_fingerprint is nested too deeply"),
        (metadata(training='"' + "x" * 2_000_000 + '"'), "training has 2000002 characters"),
        (metadata(training="[]"), "training must be an object, got list"),
        (metadata(config="null"), "config must be an object, got NoneType"),
        (changed_config((TRANSFORMER, "hidden_size"), -24), "hidden_size must lie between 1 and 131072, got -24"),
        (changed_config((TRANSFORMER, "hidden_size"), 2**40), "hidden_size must lie between"),
        (changed_config((TRANSFORMER, "stride"), 0), "spatial_transformer.stride must lie between"),
        (changed_config((TRANSFORMER, "rms_norm_eps"), math.nan), "rms_norm_eps must be finite and above 0"),
        (changed_config(("mllm", "rope_theta"), -1.0), "rope_theta must be finite and above 0"),
        (changed_config(("mllm", "num_kv_heads"), 0), "num_kv_heads, which must be above 0"),
        (changed_config(("depth_head", "reassemble_channels"), [8, 8, 0, 8]), "reassemble_channels must lie between"),
        (changed_config(("mllm", "num_layers"), 2000), "mllm.num_layers must lie between 1 and 256, got 2000"),
        (changed_config(("depth_adapter", "num_blocks"), 2000), "num_blocks must lie between 1 and 256"),
        (changed_config(("depth_adapter", "num_blocks"), 250), "253 layers and blocks, and the file has only"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hostile_metadata_is_refused_before_anything_is_built(
    file: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], reason: str
) -> None:
    def built(*_: object, **__: object) -> None:
        raise AssertionError("nothing may be built")

    monkeypatch.setattr("sf_model.checkpoint.DepthPredictor", built)
    rewrite(file, metadata=changes)
    with pytest.raises(
        CheckpointError, match=f"export it again, because its metadata cannot be read.*{reason}"
    ) as caught:
        load_checkpoint(file)
    assert len(str(caught.value)) < len(str(file)) + 400


def test_weights_that_are_no_floating_point_numbers_are_refused(file: Path) -> None:
    tensors = {name: value.to(torch.int8) for name, value in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(tensors, file, metadata())
    with pytest.raises(CheckpointError, match=r"export it again.*no floating-point numbers \(I8\)"):
        load_checkpoint(file)


def test_without_mmap_the_weights_do_not_need_the_file(file: Path) -> None:
    """A mapped file that is cut off kills the process where it is read, so that this one is overwritten instead."""
    mapped, read = load_checkpoint(file), load_checkpoint(file, mmap=False)
    content = file.read_bytes()
    with file.open("r+b") as stream:
        stream.write(bytes(len(content)))
    name = "depth_adapter.patchify.weight"
    assert mapped.state_dict[name].abs().max() == 0
    assert read.state_dict[name].abs().max() > 0


@pytest.mark.parametrize("seed", range(100))
def test_a_damaged_file_is_read_or_refused(file: Path, seed: int) -> None:
    """Cut off, with bits turned, with bytes put in, or with another header; never another error."""
    damage(file, random.Random(seed))
    try:
        load_checkpoint(file)
    except CheckpointError as error:
        assert str(file) in str(error)


def damage(file: Path, draw: random.Random) -> None:
    """Change a file in one of the ways in which files get damaged. A third of them hit the header."""
    content = bytearray(file.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    place = draw.randrange(header if draw.random() < 1 / 3 else len(content))
    kind = draw.choice(["cut", "bits", "insert", "zeros", "length"])
    if kind == "cut":
        del content[place:]
    elif kind == "bits":
        for _ in range(draw.randint(1, 8)):
            content[min(place + draw.randrange(64), len(content) - 1)] ^= 1 << draw.randrange(8)
    elif kind == "insert":
        content[place:place] = draw.randbytes(draw.randint(1, 64))
    elif kind == "zeros":
        content[place : place + 64] = bytes(len(content[place : place + 64]))
    else:
        content[:8] = draw.choice([0, 1, header * 2, 2**31, 2**63]).to_bytes(8, "little")
    file.write_bytes(content)


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
